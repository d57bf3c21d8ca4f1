# Unpacks torch's headers and libraries and all CUDA libraries from the wheels in argv[1] into argv[2].
import os, shutil, sys, zipfile

wheels, out = sys.argv[1:3]
for name in os.listdir(wheels):
    if not name.endswith(".whl"):
        continue
    with zipfile.ZipFile(os.path.join(wheels, name)) as wheel:
        for member in wheel.namelist():
            base = os.path.basename(member)
            if member.startswith("torch/include/") and base:
                target = os.path.join(out, member[len("torch/"):])
            elif base and ".so" in base and (member.startswith(("torch/lib/", "nvidia/")) or "/lib/" in member):
                target = os.path.join(out, "lib", base)
            else:
                continue
            os.makedirs(os.path.dirname(target), exist_ok=True)
            with wheel.open(member) as source, open(target, "wb") as sink:
                shutil.copyfileobj(source, sink)

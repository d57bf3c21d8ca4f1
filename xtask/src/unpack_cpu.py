# Takes from the wheels in argv[1] what a CPU-only program needs, into argv[2].
import os, shutil, sys, zipfile

wheels, out = sys.argv[1:3]
LIBS = {"libtorch_cpu.so", "libc10.so", "libgomp.so.1", "libcupti.so.13", "libcudart.so.13"}
found = set()
for name in os.listdir(wheels):
    if not name.endswith(".whl"):
        continue
    with zipfile.ZipFile(os.path.join(wheels, name)) as wheel:
        for member in wheel.namelist():
            base = os.path.basename(member)
            if member.startswith("torch/include/") and base:
                target = os.path.join(out, member[len("torch/"):])
                os.makedirs(os.path.dirname(target), exist_ok=True)
            elif base in LIBS:
                target = os.path.join(out, "lib", base)
                found.add(base)
            else:
                continue
            with wheel.open(member) as source, open(target, "wb") as sink:
                shutil.copyfileobj(source, sink)
if found != LIBS:
    sys.exit("the wheels lack " + ", ".join(sorted(LIBS - found)))
# -ltorch is asked for by torch-sys; everything in it is libtorch_cpu here.
with open(os.path.join(out, "lib", "libtorch.so"), "w") as script:
    script.write("INPUT(libtorch_cpu.so)\n")

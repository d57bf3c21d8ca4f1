# Takes torch's headers and libraries from the wheels in argv[1] into argv[2]: what a CPU-only program needs where argv[3] is
# "cpu", and all CUDA libraries where it is "cuda".
import os, shutil, sys, zipfile

wheels, out, kind = sys.argv[1:4]
CPU_LIBS = {"libtorch_cpu.so", "libc10.so", "libgomp.so.1", "libcupti.so.13", "libcudart.so.13"}


def is_wanted(member, base):
    if kind == "cpu":
        return base in CPU_LIBS
    return ".so" in base and (member.startswith(("torch/lib/", "nvidia/")) or "/lib/" in member)


found = set()
for name in os.listdir(wheels):
    if not name.endswith(".whl"):
        continue
    with zipfile.ZipFile(os.path.join(wheels, name)) as wheel:
        for member in wheel.namelist():
            base = os.path.basename(member)
            if member.startswith("torch/include/") and base:
                target = os.path.join(out, member[len("torch/"):])
            elif is_wanted(member, base):
                target = os.path.join(out, "lib", base)
                found.add(base)
            else:
                continue
            os.makedirs(os.path.dirname(target), exist_ok=True)
            with wheel.open(member) as source, open(target, "wb") as sink:
                shutil.copyfileobj(source, sink)
if kind == "cpu":
    if not found >= CPU_LIBS:
        sys.exit("the wheels lack " + ", ".join(sorted(CPU_LIBS - found)))
    # -ltorch is asked for by torch-sys; everything in it is libtorch_cpu here.
    with open(os.path.join(out, "lib", "libtorch.so"), "w") as script:
        script.write("INPUT(libtorch_cpu.so)\n")

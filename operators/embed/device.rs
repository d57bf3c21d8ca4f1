//! Where libtorch computes. Never the CPU in silence where a GPU is visible.

use std::collections::BTreeMap;
use std::ffi::{CStr, c_char, c_int, c_void};
use std::path::Path;
use std::ptr;
use std::sync::Mutex;

use tch::{Cuda, Device};

use trommel_core::wake::locked;
use trommel_model::ModelError;

/// `auto`, `cpu` or `cuda:N`.
///
/// `auto` takes the first GPU where one is visible; that its user hides all of them from CUDA is for the program to hear, which asks for `cpu`. libtorch's CUDA half is opened here, before the first CUDA call: a
/// program that was linked without it runs on machines without CUDA. What libtorch computes products in is pinned here too: every command
/// that computes comes this way, and what it computes is not for the environment to say.
///
/// # Errors
/// Another word, or a GPU that is asked for or visible but cannot be used: one line that says what to do.
pub fn parse(text: &str) -> Result<Device, ModelError> {
    let wrong = |problem: &str| ModelError::Device { device: text.into(), problem: problem.into() };
    trommel_bridge::pin_precision().map_err(|source| ModelError::Bridge { place: format!("device {text}"), source })?;
    match text {
        "cpu" => Ok(Device::Cpu),
        "auto" if !gpu_is_visible() => Ok(Device::Cpu),
        "auto" => cuda(0).ok_or_else(|| {
            wrong("a GPU is visible, but this libtorch cannot use it: `cargo xtask setup --cuda`, or say --device cpu")
        }),
        other => {
            let number = other.strip_prefix("cuda").map(|rest| rest.strip_prefix(':').unwrap_or("0").parse::<usize>());
            match number {
                Some(Ok(number)) => cuda(number).ok_or_else(|| {
                    wrong("no such GPU for this libtorch (`cargo xtask setup --cuda` fetches the one with CUDA)")
                }),
                _ => Err(wrong("write auto, cpu or cuda:N")),
            }
        }
    }
}

/// Name and memory in bytes of the card that a device's name means; `None` where that is the CPU.
///
/// # Errors
/// As [`parse`], or a driver that does not say.
pub fn memory_of(text: &str) -> Result<Option<(String, u64)>, ModelError> {
    let Device::Cuda(number) = parse(text)? else { return Ok(None) };
    let name = format!("cuda:{number}");
    let silent = || ModelError::Device { device: name.clone(), problem: "the driver does not say its memory".into() };
    let bytes = card_bytes(number).ok_or_else(silent)?;
    Ok(Some((name, bytes)))
}

/// Memory in bytes, as the driver says.
fn card_bytes(number: usize) -> Option<u64> {
    type Total = unsafe extern "C" fn(*mut usize, c_int) -> c_int;
    let mut bytes = 0usize;
    // SAFETY: this is the function's signature in cuda.h, and the place is writable.
    unsafe { ask_driver(number, c"cuDeviceTotalMem_v2", |total: Total, device| total(&raw mut bytes, device)) }?;
    Some(bytes as u64)
}

/// Bytes of each card that nobody held when this process first named it: what it has put there since counts as free.
static FREE_AT_START: Mutex<BTreeMap<usize, Option<u64>>> = Mutex::new(BTreeMap::new());

/// Bytes that were free on the card that a device's name means when this process first named it, beside its own context. `None` where that
/// is the CPU, and where the driver does not say.
///
/// # Errors
/// As [`parse`].
pub fn free_at_start(text: &str) -> Result<Option<u64>, ModelError> {
    let Device::Cuda(number) = parse(text)? else { return Ok(None) };
    Ok(locked(&FREE_AT_START).get(&number).copied().flatten())
}

/// Bytes that are free on a card now, as the driver says to who has a context there: the primary one, which libtorch computes in.
fn free_bytes(number: usize) -> Option<u64> {
    type Retain = unsafe extern "C" fn(*mut *mut c_void, c_int) -> c_int;
    type Push = unsafe extern "C" fn(*mut c_void) -> c_int;
    type Pop = unsafe extern "C" fn(*mut *mut c_void) -> c_int;
    type Info = unsafe extern "C" fn(*mut usize, *mut usize) -> c_int;
    let (mut context, mut free, mut total) = (ptr::null_mut(), 0usize, 0usize);
    // SAFETY: these are the functions' signatures in cuda.h, and the places are writable. The context is retained for the process's life,
    // and the thread's current one is again what it was.
    unsafe {
        ask_driver(number, c"cuDevicePrimaryCtxRetain", |retain: Retain, device| retain(&raw mut context, device))?;
        ask_driver(number, c"cuCtxPushCurrent_v2", |push: Push, _| push(context))?;
        let told = ask_driver(number, c"cuMemGetInfo_v2", |info: Info, _| info(&raw mut free, &raw mut total));
        ask_driver(number, c"cuCtxPopCurrent_v2", |pop: Pop, _| pop(&raw mut context))?;
        told?;
    }
    Some(free as u64)
}

/// What a card's processors can do, as (major, minor): (9, 0) is Hopper. `None` for a CPU, and where the driver does not say.
#[must_use]
pub fn compute_capability(device: Device) -> Option<(i32, i32)> {
    type Attribute = unsafe extern "C" fn(*mut c_int, c_int, c_int) -> c_int;
    /// `CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR` and `_MINOR`.
    const MAJOR_MINOR: [c_int; 2] = [75, 76];
    let Device::Cuda(number) = device else { return None };
    let [major, minor] = MAJOR_MINOR.map(|attribute| {
        let mut value = 0;
        // SAFETY: this is the function's signature in cuda.h, and the place is writable.
        unsafe {
            ask_driver(number, c"cuDeviceGetAttribute", |of: Attribute, device| of(&raw mut value, attribute, device))
        }?;
        Some(value)
    });
    Some((major?, minor?))
}

/// What tells a card from every other one, on this machine and elsewhere, as `GPU-8a1f..` in 32 hexadecimal digits; a part of a card (MIG)
/// has its own. `None` for a CPU, and where the driver does not say.
#[must_use]
pub fn uuid(device: Device) -> Option<String> {
    type Uuid = unsafe extern "C" fn(*mut u8, c_int) -> c_int;
    let Device::Cuda(number) = device else { return None };
    let mut uuid = [0u8; 16];
    // SAFETY: this is the function's signature in cuda.h, whose CUuuid is 16 bytes, and the place is writable.
    unsafe { ask_driver(number, c"cuDeviceGetUuid_v2", |uuid_of: Uuid, device| uuid_of(uuid.as_mut_ptr(), device)) }?;
    Some(format!("GPU-{:032x}", u128::from_be_bytes(uuid)))
}

/// The card's name, as the driver says.
fn driver_name(number: usize) -> Option<String> {
    type Name = unsafe extern "C" fn(*mut c_char, c_int, c_int) -> c_int;
    let mut name = [0u8; 256];
    let length = c_int::try_from(name.len() - 1).ok()?;
    // SAFETY: this is the function's signature in cuda.h; the buffer is longer than it is told, so that its last byte stays 0.
    unsafe {
        ask_driver(number, c"cuDeviceGetName", |name_of: Name, device| {
            name_of(name.as_mut_ptr().cast(), length, device)
        })
    }?;
    CStr::from_bytes_until_nul(&name).ok().map(|name| name.to_string_lossy().into_owned())
}

/// Asks the driver's function `name` about the `number`th visible card; `None` where there is no driver, no such card, or `ask`
/// gives another status than 0. The driver counts cards as libtorch does: `CUDA_VISIBLE_DEVICES` holds for both.
///
/// # Safety
/// `F` is the type of a pointer to that function, and `ask` calls it as the driver wants.
unsafe fn ask_driver<F: Copy>(number: usize, name: &CStr, ask: impl FnOnce(F, c_int) -> c_int) -> Option<()> {
    type Init = unsafe extern "C" fn(u32) -> c_int;
    type Get = unsafe extern "C" fn(*mut c_int, c_int) -> c_int;
    let number = c_int::try_from(number).ok()?;
    let mut device = 0;
    // SAFETY: the driver's library is opened and stays open; the signatures are those of cuda.h; a function's pointer has the size
    // of an address, and the caller answers for `F`.
    let status = unsafe {
        let driver = libc::dlopen(c"libcuda.so.1".as_ptr(), libc::RTLD_NOW);
        if driver.is_null() {
            return None;
        }
        let symbol = |name: &CStr| Some(libc::dlsym(driver, name.as_ptr())).filter(|symbol| !symbol.is_null());
        let init = std::mem::transmute::<*mut libc::c_void, Init>(symbol(c"cuInit")?);
        let get = std::mem::transmute::<*mut libc::c_void, Get>(symbol(c"cuDeviceGet")?);
        let asked = std::mem::transmute_copy::<*mut libc::c_void, F>(&symbol(name)?);
        if init(0) != 0 || get(&raw mut device, number) != 0 {
            return None;
        }
        ask(asked, device)
    };
    (status == 0).then_some(())
}

/// Whether the system shows an NVIDIA GPU.
fn gpu_is_visible() -> bool {
    shows_gpu(Path::new("/dev"))
}

/// A GPU is a file called after its number, any number: a container that is given the fourth one has no first. WSL has one file for all.
fn shows_gpu(folder: &Path) -> bool {
    let is_gpu = |name: &str| {
        let number = name.strip_prefix("nvidia");
        name == "dxg" || number.is_some_and(|n| !n.is_empty() && n.bytes().all(|byte| byte.is_ascii_digit()))
    };
    let Ok(entries) = std::fs::read_dir(folder) else { return false };
    entries.flatten().any(|entry| entry.file_name().to_str().is_some_and(is_gpu))
}

/// GPUs that are visible and that this libtorch can use: processes of one machine share them.
#[must_use]
pub fn visible_gpus() -> usize {
    if gpu_is_visible() { usable_gpus() } else { 0 }
}

fn usable_gpus() -> usize {
    open_cuda_half();
    if Cuda::is_available() { usize::try_from(Cuda::device_count()).unwrap_or(0) } else { 0 }
}

/// The card, whose free memory is looked at before the first of this process's tensors lies there.
fn cuda(number: usize) -> Option<Device> {
    if number >= usable_gpus() {
        return None;
    }
    locked(&FREE_AT_START).entry(number).or_insert_with(|| free_bytes(number));
    Some(Device::Cuda(number))
}

fn open_cuda_half() {
    const NAMES: [&CStr; 2] = [c"libtorch_cuda.so", c"libtorch.so"];
    for name in NAMES {
        // SAFETY: a constant name; the library's constructors register kernels with libtorch and are made to be run so.
        let _absent_without_cuda = unsafe { libc::dlopen(name.as_ptr(), libc::RTLD_NOW | libc::RTLD_GLOBAL) };
    }
}

/// `cpu` or `cuda`, whatever the number.
#[must_use]
pub const fn kind(device: Device) -> &'static str {
    match device {
        Device::Cpu => "cpu",
        Device::Cuda(_) => "cuda",
        _ => "other",
    }
}

/// The name of a GPU, as its driver gives it (`NVIDIA H100 80GB HBM3`): another card sums in another order. `None` for a CPU.
#[must_use]
pub fn card(device: Device) -> Option<String> {
    let Device::Cuda(number) = device else { return None };
    Some(driver_name(number).unwrap_or_else(|| "unknown".into()))
}

/// The widest vectors that a CPU's products are computed with, as libtorch chooses among its kernels: others sum in another order. `None` for a GPU.
#[must_use]
pub fn vectors(device: Device) -> Option<&'static str> {
    if device != Device::Cpu {
        return None;
    }
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx512f") {
        return Some("AVX-512");
    } else if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
        return Some("AVX2");
    }
    Some("narrower than AVX2")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_gpu_of_any_number_is_seen() {
        let seen = |names: &[&str]| {
            let folder = tempfile::tempdir().unwrap();
            for name in names {
                std::fs::write(folder.path().join(name), "").unwrap();
            }
            shows_gpu(folder.path())
        };
        for names in [&["nvidia0"][..], &["null", "nvidia3", "nvidiactl"], &["nvidia12"], &["dxg"]] {
            assert!(seen(names), "{names:?}");
        }
        // A driver without a card that this process may use.
        assert!(!seen(&["nvidiactl", "nvidia-uvm", "nvidia-modeset", "nvidia-caps", "nvidia"]));
        assert!(!shows_gpu(Path::new("/nonexistent")));
    }

    #[test]
    fn whoever_names_a_device_computes_f32_in_f32() {
        assert_eq!(parse("cpu").unwrap(), Device::Cpu);
        assert!(trommel_bridge::reduced_precision().unwrap().is_empty());
    }

    #[test]
    fn a_driver_that_is_not_there_says_nothing() {
        assert_eq!(compute_capability(Device::Cpu), None);
        assert_eq!((memory_of("cpu").unwrap(), card(Device::Cpu)), (None, None));
        if !gpu_is_visible() {
            assert_eq!((card_bytes(0), compute_capability(Device::Cuda(0))), (None, None));
            assert_eq!((free_bytes(0), free_at_start("cpu").unwrap()), (None, None));
            assert_eq!(parse("auto").unwrap(), Device::Cpu);
            assert_eq!(visible_gpus(), 0);
        }
    }
}

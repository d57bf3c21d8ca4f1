//! What libtorch's products are computed in: settings of the whole process, which the environment must not decide.

use crate::BridgeError;
use crate::ffi::{self, check};

/// What may be less than it is called, in the order of the bits from the other side.
const REDUCED: [&str; 4] = ["TF32 in cuBLAS", "TF32 in cuDNN", "f16 summed in f16", "bf16 summed in bf16"];

/// Has products of f32 computed in f32, where TF32 (10 bits of 23) stands for it by libtorch's default in convolutions on a card, and in
/// all products with `TORCH_ALLOW_TF32_CUBLAS_OVERRIDE=1`; and keeps the sums of half-precision products in f32, where libtorch would let
/// parts of them be added in half precision. Holds for the whole process.
///
/// # Errors
/// What libtorch refuses.
pub fn pin_precision() -> Result<(), BridgeError> {
    // SAFETY: no arguments.
    unsafe { check("pinned precision", ffi::trommel_pin_precision()) }
}

/// What libtorch may compute in less than it is called: nothing after [`pin_precision`].
///
/// # Errors
/// What libtorch refuses.
pub fn reduced_precision() -> Result<Vec<&'static str>, BridgeError> {
    let mut bits = 0;
    // SAFETY: a place that outlives the call.
    unsafe { check("precision", ffi::trommel_precision(&raw mut bits)) }?;
    Ok(REDUCED.into_iter().enumerate().filter(|(at, _)| (bits >> at) & 1 == 1).map(|(_, name)| name).collect())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// The environment is read when libtorch is loaded: each in a process of its own.
    #[test]
    fn neither_defaults_nor_the_environment_decide() {
        const ALONE: &str = "TROMMEL_TEST_PRECISION";
        if let Ok(due) = std::env::var(ALONE) {
            assert_eq!(reduced_precision().unwrap().join(", "), due);
            pin_precision().unwrap();
            assert!(reduced_precision().unwrap().is_empty());
            return;
        }
        for (value, due) in [("0", &REDUCED[1..]), ("1", &REDUCED[..])] {
            let name = "precision::tests::neither_defaults_nor_the_environment_decide";
            let alone = std::process::Command::new(std::env::current_exe().unwrap())
                .args(["--exact", name])
                .env("TORCH_ALLOW_TF32_CUBLAS_OVERRIDE", value)
                .env(ALONE, due.join(", "))
                .output()
                .unwrap();
            let said = String::from_utf8_lossy(&alone.stdout).into_owned();
            assert!(alone.status.success() && said.contains("1 passed"), "{said}");
        }
    }
}

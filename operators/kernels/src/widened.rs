//! One source, compiled for what the processor has, and chosen at run time: the results are the same, as nothing is fused and sums stay in their lanes.

/// Compiles a function for AVX2 too, or with a fourth name for AVX-512 as well, and calls the widest form that the processor has:
/// `fn name / for AVX2 / plain (..) {..}`, `fn name / for AVX2 / for AVX-512 / plain (..) {..}`.
macro_rules! widened {
    (@forms $wide:ident / $plain:ident ($($arg:ident: $type:ty),*) $body:block) => {
        #[inline(always)]
        fn $plain($($arg: $type),*) $body

        #[cfg(target_arch = "x86_64")]
        #[target_feature(enable = "avx2")]
        fn $wide($($arg: $type),*) {
            $plain($($arg),*);
        }
    };
    (@avx2_or $wide:ident / $plain:ident ($($arg:ident),*)) => {
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx2") {
                // SAFETY: the feature was just seen.
                return unsafe { $wide($($arg),*) };
            }
        }
        $plain($($arg),*);
    };
    ($(#[$doc:meta])* $vis:vis fn $name:ident / $wide:ident / $plain:ident ($($arg:ident: $type:ty),*) $body:block) => {
        $crate::widened::widened! { @forms $wide / $plain ($($arg: $type),*) $body }

        $(#[$doc])*
        $vis fn $name($($arg: $type),*) {
            $crate::widened::widened! { @avx2_or $wide / $plain ($($arg),*) }
        }
    };
    ($(#[$doc:meta])* $vis:vis fn $name:ident / $wide:ident / $widest:ident / $plain:ident ($($arg:ident: $type:ty),*) $body:block) => {
        $crate::widened::widened! { @forms $wide / $plain ($($arg: $type),*) $body }

        #[cfg(target_arch = "x86_64")]
        #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
        fn $widest($($arg: $type),*) {
            $plain($($arg),*);
        }

        $(#[$doc])*
        #[inline]
        $vis fn $name($($arg: $type),*) {
            #[cfg(target_arch = "x86_64")]
            {
                if is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512vl")
                    && is_x86_feature_detected!("avx512dq")
                {
                    // SAFETY: the features were just seen, and imply AVX-512F.
                    return unsafe { $widest($($arg),*) };
                }
            }
            $crate::widened::widened! { @avx2_or $wide / $plain ($($arg),*) }
        }
    };
}

pub(crate) use widened;

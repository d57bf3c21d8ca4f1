//! A maximum and who reached it. Equal values go to the smaller identity, so that the order of arrival changes nothing.

/// A similarity and who has it.
pub type Peak<I> = (f64, I);

/// Whether `new` is larger than `old`, or as large and of a smaller identity.
pub fn beats<I: Ord>(new: &Peak<I>, old: &Peak<I>) -> bool {
    new.0 > old.0 || (new.0 == old.0 && new.1 < old.1)
}

/// Takes the larger similarity; of equal ones that of the smaller identity.
pub fn offer<I: Ord>(peak: &mut Peak<I>, other: Peak<I>) {
    if beats(&other, peak) {
        *peak = other;
    }
}

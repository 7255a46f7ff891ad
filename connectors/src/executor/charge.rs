//! What a provider charges for an instance.

use solyx_schemas::units::*;

/// Time billed: at least the minimum, otherwise the time used rounded up to the granularity.
pub(crate) fn billed(used: DurationUs, minimum: DurationUs, granularity: DurationUs) -> DurationUs {
    let step = granularity.0.max(1);
    let rounded = (used.0.max(0).saturating_add(step - 1) / step).saturating_mul(step);
    DurationUs(rounded.max(minimum.0))
}

/// The charge for so many GPUs over the time billed, rounded once, half to even.
pub(crate) fn charge(price: RateMicros, gpus: i64, billed: DurationUs) -> MoneyMicros {
    let exact = i128::from(price.0) * i128::from(gpus) * 1_000 * i128::from(billed.0);
    MoneyMicros(divide_half_even(exact, GPU_MILLI_US_PER_GPU_HOUR) as i64)
}

/// The quotient nearest to the exact one; of two equally near, the even one. `divisor` is positive.
fn divide_half_even(dividend: i128, divisor: i128) -> i128 {
    let quotient = dividend.div_euclid(divisor);
    let twice_rest = dividend.rem_euclid(divisor) * 2;
    let up = twice_rest > divisor || (twice_rest == divisor && quotient % 2 != 0);
    quotient + i128::from(up)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_is_billed_in_whole_steps_and_never_below_the_minimum() {
        let minute = DurationUs(60 * SECOND_US);
        let hour = DurationUs(HOUR_US);
        assert_eq!(billed(DurationUs(1), hour, minute), hour);
        assert_eq!(billed(DurationUs(HOUR_US + 1), hour, minute), DurationUs(HOUR_US + minute.0));
        assert_eq!(billed(DurationUs(90), DurationUs::ZERO, DurationUs::ZERO), DurationUs(90));
    }

    #[test]
    fn a_charge_is_exact_and_rounds_half_to_even() {
        assert_eq!(charge(RateMicros(2_500_000), 8, DurationUs(HOUR_US / 2)), MoneyMicros(10_000_000));
        // Half a micro, and one and a half.
        assert_eq!(charge(RateMicros(1), 1, DurationUs(HOUR_US / 2)), MoneyMicros(0));
        assert_eq!(charge(RateMicros(3), 1, DurationUs(HOUR_US / 2)), MoneyMicros(2));
        assert_eq!(charge(RateMicros(-1), 1, DurationUs(HOUR_US / 2)), MoneyMicros(0));
    }
}

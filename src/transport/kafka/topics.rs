//! Names of the topics that belong to a subscription.

use std::time::Duration;

/// `<subscription>.retry.<delay>`: copies that are due so long after they were written.
pub(super) fn retry(subscription: &str, delay: Duration) -> String {
    format!("{subscription}.retry.{}", short(delay))
}

/// `<subscription>.dead`: copies of letters.
pub(super) fn dead(subscription: &str) -> String {
    format!("{subscription}.dead")
}

/// `<subscription>.retry`: the group that reads its retry topics. One of its own, so that a retry topic does not take a share
/// of the partitions from a worker; by the subscription, so that two services on one channel share its retries as they share it.
pub(super) fn retry_group(subscription: &str) -> String {
    format!("{subscription}.retry")
}

/// The delay of a retry topic of `subscription`, if `topic` is one.
pub(super) fn delay(subscription: &str, topic: &str) -> Option<Duration> {
    let written = topic.strip_prefix(subscription)?.strip_prefix(".retry.")?;
    let (number, unit) = written.split_at(written.find(|c: char| !c.is_ascii_digit())?);
    let number: u64 = number.parse().ok()?;
    let millis = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    number.checked_mul(millis).map(Duration::from_millis)
}

/// In the largest unit that is exact: `30s`, `10m`, `90s`.
fn short(delay: Duration) -> String {
    let millis = delay.as_millis();
    let units = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1_000, "s")];
    let exact = units.into_iter().find(|(size, _)| millis > 0 && millis.is_multiple_of(*size));
    exact.map_or_else(|| format!("{millis}ms"), |(size, unit)| format!("{}{unit}", millis / size))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_name_of_a_retry_topic_says_its_delay(millis in 1u64..100_000_000) {
            let delayed = Duration::from_millis(millis);
            prop_assert_eq!(delay("shop.commands", &retry("shop.commands", delayed)), Some(delayed));
        }
    }

    #[test]
    fn a_delay_is_written_as_people_write_it() {
        let names = [1, 30, 60, 90, 600, 86_400].map(|seconds| retry("shop", Duration::from_secs(seconds)));
        assert_eq!(names, ["1s", "30s", "1m", "90s", "10m", "1d"].map(|delay| format!("shop.retry.{delay}")));
        assert_eq!(delay("shop", "shop.retry.x"), None);
        assert_eq!(delay("shop", "shop.cars.retry.1s"), None);
        assert_eq!(delay("shop", "shop.dead"), None);
    }
}

//! The nodes of a cluster in one URL, `amqp://user@a,b:5673/vhost`: tried in turn.

/// The same URL once for each of its hosts.
pub(super) fn each(url: &str) -> Vec<String> {
    let Some((scheme, rest)) = url.split_once("://") else { return vec![url.into()] };
    // A password may hold an `@`, a host does not.
    let at = rest.rfind('@').map_or(0, |at| at + 1);
    let end = rest[at..].find(['/', '?']).map_or(rest.len(), |end| at + end);
    let one = |host: &str| format!("{scheme}://{}{}{}", &rest[..at], host.trim(), &rest[end..]);
    rest[at..end].split(',').map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::each;

    #[test]
    fn each_host_has_the_login_the_vhost_and_the_settings_of_all() {
        assert_eq!(each("amqp://mq"), ["amqp://mq"]);
        assert_eq!(each("no url"), ["no url"]);
        assert_eq!(each("amqps://a,b:5673"), ["amqps://a", "amqps://b:5673"]);
        assert_eq!(each("amqp://[::1]:1, b/v?heartbeat=5"), ["amqp://[::1]:1/v?heartbeat=5", "amqp://b/v?heartbeat=5"]);
        assert_eq!(each("amqp://u:p,@q@a,b/v"), ["amqp://u:p,@q@a/v", "amqp://u:p,@q@b/v"]);
    }
}

//! Message Filter: which addresses may be fetched from.

use car_workers::http::public::{Allowed, Network};
use std::net::IpAddr;

#[test]
fn only_public_addresses_are_admitted() {
    let allowed = Allowed::default();
    let admits = |address: &str| allowed.admits(address.parse::<IpAddr>().unwrap());
    for public in [
        "8.8.8.8",
        "1.1.1.1",
        "172.15.0.1",
        "172.32.0.1",
        "100.63.0.1",
        "193.0.0.1",
        "2606:4700::1111",
        "64:ff9b::8.8.8.8",
        "::ffff:8.8.8.8",
    ] {
        assert!(admits(public), "{public}");
    }
    for inside in [
        "0.0.0.0",
        "0.1.2.3",
        "10.0.0.1",
        "100.64.0.1",
        "100.127.255.255",
        "127.0.0.1",
        "127.255.255.255",
        "169.254.169.254",
        "172.16.0.1",
        "172.31.255.255",
        "192.0.0.1",
        "192.0.2.1",
        "192.88.99.1",
        "192.168.1.1",
        "198.18.0.1",
        "198.19.255.255",
        "198.51.100.1",
        "203.0.113.1",
        "224.0.0.1",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::127.0.0.1",
        "::ffff:127.0.0.1",
        "::ffff:169.254.169.254",
        "64:ff9b::10.0.0.1",
        "64:ff9b:1::1",
        "100::1",
        "2001::1",
        "2001:db8::1",
        "2002:7f00:1::",
        "3fff::1",
        "fc00::1",
        "fd12::1",
        "fe80::1",
        "fec0::1",
        "ff02::1",
    ] {
        assert!(!admits(inside), "{inside}");
    }
}

#[test]
fn the_config_may_admit_more() {
    let networks =
        ["10.1.0.0/16", "192.168.7.9", "fd00:1::/32", "127.0.0.0/8"].map(|text| text.parse::<Network>().unwrap());
    let allowed = Allowed::and(networks.to_vec());
    let admits = |address: &str| allowed.admits(address.parse::<IpAddr>().unwrap());
    for inside in ["10.1.0.0", "10.1.255.255", "192.168.7.9", "fd00:1:2::3", "127.9.9.9", "::ffff:10.1.2.3", "8.8.8.8"]
    {
        assert!(admits(inside), "{inside}");
    }
    for outside in ["10.2.0.0", "10.0.255.255", "192.168.7.8", "fd00:2::1", "::1", "169.254.169.254"] {
        assert!(!admits(outside), "{outside}");
    }
    let all = Allowed::and(vec!["0.0.0.0/0".parse().unwrap()]);
    assert!(all.admits("10.0.0.1".parse().unwrap()) && !all.admits("::1".parse().unwrap()));
}

#[test]
fn what_is_no_network_is_refused() {
    for wrong in ["", "10", "10.1.0.0/33", "::/129", "10.1.0.0/-1", "10.1.0.0/", "intranet"] {
        let refused = wrong.parse::<Network>().unwrap_err().to_string();
        assert_eq!(refused, format!("`{wrong}` is no network; write e.g. \"10.1.0.0/16\" or \"10.1.2.3\""));
    }
}

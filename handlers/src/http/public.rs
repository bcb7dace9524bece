//! Message Filter: which addresses may be called.
//!
//! A URL in a command was written by a stranger. Whoever can make this worker call it stands where the worker stands: inside.
//! So only what is public is reached, and what is public is decided by the address, never by the name.
//!
//! Every address is checked where it is used: the name is resolved here, the addresses that are not allowed are taken out, and the
//! connection is made to one of the rest. A check before, by another look-up, would check another answer ("DNS rebinding").

use reqwest::{
    Url,
    dns::{Addrs, Name, Resolve, Resolving},
};
use serde::Deserialize;
use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    str::FromStr,
    sync::Arc,
};

/// Which addresses may be called: those of the public Internet, and those that the config allows.
#[derive(Debug, Clone, Default)]
pub struct Allowed(Vec<Network>);
impl Allowed {
    /// The public ones and these.
    pub fn and(networks: Vec<Network>) -> Self {
        Self(networks)
    }

    /// Whether this one may be called.
    pub fn admits(&self, address: IpAddr) -> bool {
        // `::ffff:10.0.0.1` goes to 10.0.0.1.
        let address = address.to_canonical();
        is_public(address) || self.0.iter().any(|network| network.holds(address))
    }
}

/// What no look-up will check: an address that is written out needs none.
///
/// # Errors
/// It is not public.
pub(crate) fn written_out(url: &Url, allowed: &Allowed) -> Result<(), NotPublic> {
    let host = url.host_str().unwrap_or_default();
    match host.trim_matches(['[', ']']).parse::<IpAddr>() {
        Ok(address) if !allowed.admits(address) => Err(NotPublic { host: host.to_owned(), address }),
        _ => Ok(()),
    }
}

/// Where a stranger's URL would lead inside.
#[derive(Debug, Clone, thiserror::Error)]
#[error("`{host}` is at {address}, which is not public")]
pub(crate) struct NotPublic {
    pub(crate) host: String,
    pub(crate) address: IpAddr,
}

/// The names of the system: its resolver, its hosts file.
pub(crate) struct SystemNames;
impl Resolve for SystemNames {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let found: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

/// Only the addresses that may be called. With it goes `no_proxy()`: a proxy would resolve the name once more.
pub(crate) struct CheckedNames {
    pub(crate) names: Arc<dyn Resolve>,
    pub(crate) allowed: Arc<Allowed>,
}
impl Resolve for CheckedNames {
    fn resolve(&self, name: Name) -> Resolving {
        let (host, allowed) = (name.as_str().to_owned(), self.allowed.clone());
        let found = self.names.resolve(name);
        Box::pin(async move {
            let (admitted, refused): (Vec<_>, Vec<_>) = found.await?.partition(|found| allowed.admits(found.ip()));
            match refused.first() {
                Some(first) if admitted.is_empty() => Err(NotPublic { host, address: first.ip() }.into()),
                _ => Ok(Box::new(admitted.into_iter()) as Addrs),
            }
        })
    }
}

/// Addresses that begin alike, e.g. `10.1.0.0/16`, or a single one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Network {
    first: IpAddr,
    bits: u32,
}
impl Network {
    fn holds(self, address: IpAddr) -> bool {
        match (self.first, address) {
            (IpAddr::V4(first), IpAddr::V4(address)) => {
                (first.to_bits() ^ address.to_bits()).checked_shr(32 - self.bits).unwrap_or(0) == 0
            }
            (IpAddr::V6(first), IpAddr::V6(address)) => {
                (first.to_bits() ^ address.to_bits()).checked_shr(128 - self.bits).unwrap_or(0) == 0
            }
            _ => false,
        }
    }
}

/// No network.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no network; write e.g. \"10.1.0.0/16\" or \"10.1.2.3\"")]
pub struct NetworkError(String);

impl FromStr for Network {
    type Err = NetworkError;

    fn from_str(text: &str) -> Result<Self, NetworkError> {
        let wrong = || NetworkError(text.to_owned());
        let (first, bits) = text.split_once('/').map_or((text, None), |(first, bits)| (first, Some(bits)));
        let first: IpAddr = first.parse().map_err(|_| wrong())?;
        let most = if first.is_ipv4() { 32 } else { 128 };
        let bits = bits.map_or(Ok(most), str::parse).map_err(|_| wrong())?;
        if bits > most { Err(wrong()) } else { Ok(Self { first, bits }) }
    }
}
impl TryFrom<String> for Network {
    type Error = NetworkError;

    fn try_from(text: String) -> Result<Self, NetworkError> {
        text.parse()
    }
}

fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

/// After the registry of special addresses (RFC 6890 and its list at IANA); the standard library's `is_global` is unstable.
fn is_public_v4(address: Ipv4Addr) -> bool {
    let special = address.is_private()
        || address.is_loopback()
        || address.is_link_local() // 169.254.169.254 gives away a cloud machine's keys.
        || address.is_multicast()
        || address.is_broadcast()
        || address.is_documentation()
        || matches!(
            address.octets(),
            [0, ..]                     // this network
                | [100, 64..=127, ..]   // between a provider and its customers
                | [192, 0, 0, _]        // protocol assignments
                | [192, 88, 99, _]      // a relay to IPv6
                | [198, 18 | 19, ..]    // benchmarks
                | [240..=255, ..] // reserved
        );
    !special
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    // Global unicast is 2000::/3, and some of it leads to IPv4 addresses or nowhere.
    match address.segments() {
        [0x64, 0xFF9B, 0, 0, 0, 0, high, low] => {
            is_public_v4(Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low)))
        }
        [0x2001, 0..=0x1FF, ..] | [0x2001, 0xDB8, ..] | [0x2002, ..] | [0x3FFF, 0..=0xFFF, ..] => false,
        [first, ..] => first & 0xE000 == 0x2000,
    }
}

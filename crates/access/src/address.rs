//! Addresses from which something may be used.

use std::{fmt, net::IpAddr, str::FromStr, sync::Arc};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use utoipa::ToSchema;

/// Why a text is no block of addresses.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// It is something else.
    #[error("\"{0}\" is neither an IP address nor a CIDR block")]
    Form(String),
    /// Its prefix is longer than an address.
    #[error("\"{0}\": a prefix here has at most {1} bits")]
    Prefix(String, u8),
    /// There are too many.
    #[error("a list has at most {} addresses and blocks", AddressBlocks::MOST)]
    TooMany,
}

/// One address or a CIDR block of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressBlock {
    address: IpAddr,
    prefix: u8,
}

/// Bits in front of an IPv4 address that is mapped into IPv6 (`::ffff:10.0.0.1`).
const MAPPED: u8 = 96;

impl AddressBlock {
    /// The block of all addresses whose first `prefix` bits are those of `address`. One of IPv4 addresses mapped into
    /// IPv6 is that of the IPv4 addresses, which [`Self::contains`] asks about.
    fn of(address: IpAddr, prefix: u8) -> Self {
        match (address.to_canonical(), prefix.checked_sub(MAPPED)) {
            (IpAddr::V4(mapped), Some(prefix)) if address.is_ipv6() => Self {
                address: IpAddr::V4(mapped),
                prefix,
            },
            _ => Self { address, prefix },
        }
    }

    /// Whether `ip` lies in this block; an IPv4 address mapped into IPv6 counts as IPv4.
    pub fn contains(&self, ip: IpAddr) -> bool {
        match (self.address, ip.to_canonical()) {
            (IpAddr::V4(net), IpAddr::V4(ip)) => {
                let shift = 32 - u32::from(self.prefix);
                net.to_bits().checked_shr(shift) == ip.to_bits().checked_shr(shift)
            }
            (IpAddr::V6(net), IpAddr::V6(ip)) => {
                let shift = 128 - u32::from(self.prefix);
                net.to_bits().checked_shr(shift) == ip.to_bits().checked_shr(shift)
            }
            _ => false,
        }
    }
}

impl FromStr for AddressBlock {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let text = text.trim();
        let shown = || text.chars().take(80).flat_map(char::escape_debug).collect();
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| AddressError::Form(shown()))?;
        let bits = if address.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            Some(prefix) => prefix.parse().map_err(|_| AddressError::Form(shown()))?,
            None => bits,
        };
        if prefix > bits {
            return Err(AddressError::Prefix(shown(), bits));
        }
        Ok(Self::of(address, prefix))
    }
}

impl fmt::Display for AddressBlock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

/// Blocks from which something may be used; a list without any is one that lets nobody in. In JSON a list of texts.
#[derive(Clone, Debug, PartialEq, Eq, ToSchema)]
#[schema(value_type = Vec<String>)]
pub struct AddressBlocks(Arc<[AddressBlock]>);

impl AddressBlocks {
    /// Most blocks in a list.
    pub const MOST: usize = 64;

    /// These blocks.
    pub fn of(blocks: Vec<AddressBlock>) -> Result<Self, AddressError> {
        if blocks.len() > Self::MOST {
            return Err(AddressError::TooMany);
        }
        Ok(Self(blocks.into()))
    }

    /// Whether `address` is in one of them. One that is not known is in none.
    pub fn contain(&self, address: Option<IpAddr>) -> bool {
        address.is_some_and(|address| self.0.iter().any(|block| block.contains(address)))
    }

    /// The blocks.
    pub fn iter(&self) -> impl Iterator<Item = &AddressBlock> {
        self.0.iter()
    }
}

impl Serialize for AddressBlocks {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(ToString::to_string))
    }
}

impl<'de> Deserialize<'de> for AddressBlocks {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let texts = Vec::<String>::deserialize(deserializer)?;
        let blocks: Result<_, _> = texts.iter().map(|text| text.parse()).collect();
        blocks.and_then(Self::of).map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_contain_their_addresses_only() {
        let net: AddressBlock = "10.1.0.0/16".parse().unwrap();
        assert!(net.contains("10.1.255.3".parse().unwrap()));
        assert!(net.contains("::ffff:10.1.2.3".parse().unwrap()));
        assert!(!net.contains("10.2.0.1".parse().unwrap()));
        let one: AddressBlock = "::1".parse().unwrap();
        assert!(one.contains("::1".parse().unwrap()) && !one.contains("::2".parse().unwrap()));
        let all: AddressBlock = "0.0.0.0/0".parse().unwrap();
        assert!(
            all.contains("203.0.113.9".parse().unwrap())
                && !all.contains("2001:db8::1".parse().unwrap())
        );
        for (mapped, plain) in [
            ("::ffff:10.1.2.3", "10.1.2.3"),
            ("::ffff:10.1.0.0/112", "10.1.0.0/16"),
            ("::ffff:0:0/96", "0.0.0.0/0"),
        ] {
            let mapped: AddressBlock = mapped.parse().unwrap();
            assert_eq!(mapped, plain.parse().unwrap());
            assert!(mapped.contains("10.1.2.3".parse().unwrap()), "{mapped}");
        }
        for text in ["10.0.0.0/33", "proxy.example.org", "10.0.0/8", ""] {
            assert!(text.parse::<AddressBlock>().is_err(), "{text}");
        }
    }
}

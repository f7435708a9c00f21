//! The addresses of this host's own interfaces.
//! It lists them; what nobody may reach there is the egress policy's business.

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;

use nix::ifaddrs::getifaddrs;

/// Every address that an interface has now.
///
/// # Errors
/// The kernel does not say; without `AF_NETLINK`, for example.
pub fn own() -> io::Result<BTreeSet<IpAddr>> {
    let addresses = getifaddrs()?.filter_map(|interface| {
        let address = interface.address?;
        let v4 = address.as_sockaddr_in().map(|address| address.ip().into());
        v4.or_else(|| address.as_sockaddr_in6().map(|address| address.ip().into()))
    });
    Ok(addresses.collect())
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    #[test]
    fn the_loopback_is_one_of_them() {
        let own = super::own().unwrap();
        assert!(own.contains(&Ipv4Addr::LOCALHOST.into()), "{own:?}");
    }
}

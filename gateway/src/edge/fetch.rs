//! Fetches the address of a `{"url": …}` request: switched off unless the deployment allows it.
//!
//! A client must not reach through this gateway what it cannot reach itself, so every address is checked where
//! it is resolved, after every redirect too; metadata services of clouds stay closed in every mode.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::{Stream, StreamExt as _};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::redirect::Policy;
use reqwest::{Client, Url};

use crate::config::UrlFetch;
use crate::error::Error;

/// Redirects that are followed.
const MAX_REDIRECTS: usize = 5;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest whole transfer.
const TRANSFER_TIMEOUT: Duration = Duration::from_mins(2);

/// Fetches addresses, or refuses to.
#[derive(Debug, Clone)]
pub struct Fetcher {
    client: Option<Client>,
    mode: UrlFetch,
}

impl Fetcher {
    /// A fetcher for a mode.
    pub fn new(mode: UrlFetch) -> Result<Self, Error> {
        if mode == UrlFetch::None {
            return Ok(Self { client: None, mode });
        }
        let client = Client::builder()
            .redirect(policy(mode))
            .dns_resolver(Arc::new(Guarded(mode)))
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(TRANSFER_TIMEOUT)
            .no_proxy()
            .build()
            .map_err(|_| Error::Internal("the HTTP client could not be built"))?;
        Ok(Self { client: Some(client), mode })
    }

    /// The body behind an address, and the file name its path ends with.
    pub async fn get(
        &self,
        url: &str,
    ) -> Result<(impl Stream<Item = Result<Bytes, Error>> + use<>, Option<String>), Error> {
        let client = self.client.as_ref().ok_or(Error::UrlFetchDisabled)?;
        let url = Url::parse(url).map_err(|e| Error::FetchUrl(format!("it is not an address: {e}")))?;
        check(&url, self.mode).map_err(|e| Error::FetchUrl(e.to_owned()))?;
        let name = url.path_segments().and_then(|mut s| s.next_back()).filter(|s| !s.is_empty());
        let name = name.map(str::to_owned);
        let response = client.get(url).send().await.map_err(|e| failed(&e))?;
        if !response.status().is_success() {
            return Err(Error::FetchUrl(format!("the server answered {}", response.status())));
        }
        Ok((response.bytes_stream().map(|chunk| chunk.map_err(|e| failed(&e))), name))
    }
}

/// The reason without the address, which may hold a signature.
fn failed(e: &reqwest::Error) -> Error {
    let kind = match e {
        e if e.is_timeout() => "it took too long",
        e if e.is_redirect() => "it redirects too often or to where this gateway must not go",
        e if e.is_connect() => "the host cannot be reached, or this gateway must not reach it",
        _ => "the transfer broke off",
    };
    Error::FetchUrl(kind.to_owned())
}

fn policy(mode: UrlFetch) -> Policy {
    Policy::custom(move |attempt| {
        if attempt.previous().len() > MAX_REDIRECTS {
            return attempt.error("too many redirects");
        }
        match check(attempt.url(), mode) {
            Ok(()) => attempt.follow(),
            Err(e) => attempt.error(e),
        }
    })
}

/// Scheme and, where the host is written as an address, the address.
fn check(url: &Url, mode: UrlFetch) -> Result<(), &'static str> {
    if !matches!(url.scheme(), "http" | "https") {
        return Err("use http or https");
    }
    let host = url.host_str().unwrap_or_default();
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    match address {
        Ok(ip) if !permitted(ip, mode) => Err("this gateway must not reach that address"),
        _ => Ok(()),
    }
}

/// Resolves names to permitted addresses only.
struct Guarded(UrlFetch);

impl Resolve for Guarded {
    fn resolve(&self, name: Name) -> Resolving {
        let mode = self.0;
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let open: Vec<SocketAddr> = found.filter(|a| permitted(a.ip(), mode)).collect();
            if open.is_empty() {
                return Err("the host has no address that may be reached".into());
            }
            Ok(Box::new(open.into_iter()) as Addrs)
        })
    }
}

/// Whether a mode may reach an address. Pure.
fn permitted(ip: IpAddr, mode: UrlFetch) -> bool {
    let public_only = match mode {
        UrlFetch::None => return false,
        UrlFetch::Public => true,
        UrlFetch::Any => false,
    };
    match ip {
        IpAddr::V4(ip) => permitted_v4(ip, public_only),
        IpAddr::V6(ip) => match ip.to_ipv4_mapped() {
            Some(ip) => permitted_v4(ip, public_only),
            None => permitted_v6(ip, public_only),
        },
    }
}

fn permitted_v4(ip: Ipv4Addr, public_only: bool) -> bool {
    let [a, b, ..] = ip.octets();
    // 100.64.0.0/10 is shared by carriers and clouds (one metadata service lives there); 240.0.0.0/4 reserved.
    let shared = a == 100 && (64..128).contains(&b);
    let never = ip.is_link_local() || ip.is_multicast() || a == 0 || a >= 240 || shared;
    let inside = ip.is_loopback() || ip.is_private();
    !(never || public_only && inside)
}

fn permitted_v6(ip: Ipv6Addr, public_only: bool) -> bool {
    const METADATA: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);
    let never = ip.is_unicast_link_local() || ip.is_multicast() || ip.is_unspecified() || ip == METADATA;
    let inside = ip.is_loopback() || ip.is_unique_local();
    !(never || public_only && inside)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_open_as_the_mode_says() {
        let cases = [
            ("93.184.216.34", true, true),
            ("2606:2800:220:1::1", true, true),
            ("127.0.0.1", false, true),
            ("10.1.2.3", false, true),
            ("192.168.0.1", false, true),
            ("::ffff:10.0.0.1", false, true),
            ("fc00::1", false, true),
            ("::1", false, true),
            ("169.254.169.254", false, false),
            ("::ffff:169.254.169.254", false, false),
            ("100.100.100.200", false, false),
            ("fd00:ec2::254", false, false),
            ("fe80::1", false, false),
            ("0.0.0.0", false, false),
        ];
        for (ip, public, any) in cases {
            let ip: IpAddr = ip.parse().unwrap();
            assert_eq!(permitted(ip, UrlFetch::Public), public, "{ip}");
            assert_eq!(permitted(ip, UrlFetch::Any), any, "{ip}");
            assert!(!permitted(ip, UrlFetch::None), "{ip}");
        }
    }

    #[test]
    fn schemes_and_written_addresses_are_checked() {
        let check = |url: &str| super::check(&Url::parse(url).unwrap(), UrlFetch::Public).is_ok();
        assert!(check("https://example.com/a.wav"));
        for bad in [
            "file:///etc/passwd",
            "ftp://example.com/",
            "http://127.0.0.1/",
            "http://[::1]:80/",
            "http://0x7f.1/",
        ] {
            assert!(!check(bad), "{bad}");
        }
    }
}

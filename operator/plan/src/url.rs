//! The little that is asked of addresses: their port, and the form in which a login stands in them.

use std::fmt::Write as _;

/// Port of an address such as `https://host:8443/path` or `redis://user:pw@[::1]:6380/0`; that of its scheme when it
/// names none. Addresses have passed the schema's patterns; what is none here has no port.
pub(crate) fn port(url: &str) -> Option<u16> {
    let (scheme, rest) = url.trim().split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    // What stands after the last bracket: the colons of an IPv6 address are none of a port.
    let after = host.rsplit_once(']').map_or(host, |(_, after)| after);
    match after.rsplit_once(':') {
        Some((_, port)) => port.parse().ok(),
        None => match scheme {
            "https" => Some(443),
            "http" => Some(80),
            "redis" | "rediss" => Some(6379),
            _ => None,
        },
    }
}

/// The address with user and password in it.
pub(crate) fn with_login(url: &str, username: &str, password: &str) -> String {
    match url.split_once("://") {
        Some((scheme, rest)) => format!("{scheme}://{}:{}@{rest}", encode(username), encode(password)),
        None => url.to_owned(),
    }
}

/// Percent-encodes everything that could mean something in an address.
fn encode(text: &str) -> String {
    text.bytes().fold(String::new(), |mut out, byte| {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(char::from(byte)),
            byte => {
                let _ = write!(out, "%{byte:02X}");
            }
        }
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_found_wherever_they_stand() {
        for (url, expected) in [
            ("https://models.example.com/demo", Some(443)),
            ("http://models.example.com:8080", Some(8080)),
            ("https://models.example.com:8443/a:b@c", Some(8443)),
            ("rediss://user:p%40ss@redis.example:6380/0", Some(6380)),
            ("redis://[2001:db8::1]", Some(6379)),
            ("redis://[2001:db8::1]:7000/0", Some(7000)),
            ("redis://host:6379\n", Some(6379)),
            ("file:///srv/models", None),
            ("host:1", None),
        ] {
            assert_eq!(port(url), expected, "{url}");
        }
    }

    #[test]
    fn a_login_cannot_break_out_of_its_place() {
        let url = with_login("rediss://redis.example:6380/0", "speech", "p@ss/w:rd%");
        assert_eq!(url, "rediss://speech:p%40ss%2Fw%3Ard%25@redis.example:6380/0");
        assert_eq!(port(&url), Some(6380));
    }
}

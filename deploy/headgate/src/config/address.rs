//! Checks of URLs and listening addresses. Pure. A URL from the file is trusted to point where its author wants; only
//! its form is checked here.

use std::net::SocketAddr;

use hyper::Uri;

/// A base URL in the form the rest of the program builds on: scheme, host, optional prefix, no slash at the end.
///
/// # Errors
/// What is wrong with it. The text itself is not repeated: it might carry a password.
pub(crate) fn base_url(text: &str) -> Result<String, &'static str> {
    let uri: Uri = text.parse().map_err(|_| "it is not a URL")?;
    if !matches!(uri.scheme_str(), Some("http" | "https")) {
        return Err("it does not begin with http:// or https://");
    }
    let authority = uri.authority().ok_or("it has no host")?;
    if authority.as_str().contains('@') {
        return Err("it carries a user name");
    }
    if authority.host().is_empty() {
        return Err("it has no host");
    }
    if uri.query().is_some() || text.contains('#') {
        return Err("it has a query or a fragment");
    }
    Ok(text.trim_end_matches('/').to_owned())
}

/// Whether a checked base URL is sent in clear over a network.
pub(crate) fn in_clear(url: &str) -> bool {
    url.parse::<Uri>().is_ok_and(|uri| uri.scheme_str() == Some("http")) && !is_loopback(url)
}

/// Whether a checked base URL names this machine's loopback.
pub(crate) fn is_loopback(url: &str) -> bool {
    let Ok(uri) = url.parse::<Uri>() else { return false };
    let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// The URL at which a listener on this machine is reached, unless its port is still to be picked.
pub(crate) fn url_of(listen: SocketAddr) -> Option<String> {
    (listen.port() != 0).then(|| format!("http://{listen}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base_urls() {
        let table = [
            ("https://api.hubapi.com", Ok("https://api.hubapi.com")),
            ("https://api.hubapi.com/", Ok("https://api.hubapi.com")),
            ("http://127.0.0.1:9101/prefix/", Ok("http://127.0.0.1:9101/prefix")),
            ("http://[::1]:80", Ok("http://[::1]:80")),
            ("api.hubapi.com", Err("it does not begin with http:// or https://")),
            ("ftp://host", Err("it does not begin with http:// or https://")),
            ("https://user:pw@host", Err("it carries a user name")),
            ("https://host/?a=b", Err("it has a query or a fragment")),
            ("https://host/#a", Err("it has a query or a fragment")),
            ("https://ho st", Err("it is not a URL")),
            ("", Err("it is not a URL")),
        ];
        for (text, expected) in table {
            assert_eq!(base_url(text), expected.map(str::to_owned), "{text}");
        }
    }

    #[test]
    fn clear_text_is_fine_on_loopback_only() {
        let table = [
            ("http://127.0.0.1:9101", false),
            ("http://[::1]:9101", false),
            ("http://localhost", false),
            ("https://api.hubapi.com", false),
            ("http://api.hubapi.com", true),
            ("http://10.0.0.1", true),
        ];
        for (url, expected) in table {
            assert_eq!(in_clear(url), expected, "{url}");
        }
    }
}

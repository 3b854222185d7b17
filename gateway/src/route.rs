//! Method and path to a route. It must not know which endpoints exist: whether a key is one of ours is decided only
//! after the body was read, so that a stranger cannot tell a wrong key from a wrong signature.

use hyper::Method;

use crate::config::ProviderName;

/// Where a request goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Route<'a> {
    /// `POST /in/{provider}/{key}`.
    Inbound {
        /// The provider in the path.
        provider: ProviderName,
        /// The key in the path, byte for byte.
        key: &'a str,
    },
    /// `OPTIONS` of the same: a request for consent to deliveries.
    Consent {
        /// The provider in the path.
        provider: ProviderName,
        /// The key in the path, byte for byte.
        key: &'a str,
    },
    /// An inbound path with another method.
    WrongMethod,
    /// Anything else.
    Unknown,
}

/// Finds the route of a request.
pub(crate) fn route<'a>(method: &Method, path: &'a str) -> Route<'a> {
    let Some((provider, key)) = path.strip_prefix("/in/").and_then(|rest| rest.split_once('/')) else {
        return Route::Unknown;
    };
    let provider = ProviderName::ALL.iter().copied().find(|p| p.as_str() == provider);
    match provider {
        Some(_) if key.is_empty() || key.contains('/') => Route::Unknown,
        Some(provider) if method == Method::POST => Route::Inbound { provider, key },
        Some(provider) if method == Method::OPTIONS => Route::Consent { provider, key },
        Some(_) => Route::WrongMethod,
        None => Route::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_posts_to_a_provider_and_a_key_are_inbound() {
        let inbound = Route::Inbound { provider: ProviderName::Hubspot, key: "k1" };
        for (method, path, expected) in [
            (Method::POST, "/in/hubspot/k1", inbound),
            (Method::GET, "/in/hubspot/k1", Route::WrongMethod),
            (Method::PUT, "/in/hubspot/k1", Route::WrongMethod),
            (Method::OPTIONS, "/in/hubspot/k1", Route::Consent { provider: ProviderName::Hubspot, key: "k1" }),
            (Method::POST, "/in/hubspot/", Route::Unknown),
            (Method::POST, "/in/hubspot", Route::Unknown),
            (Method::POST, "/in/hubspot/k1/", Route::Unknown),
            (Method::POST, "/in/HubSpot/k1", Route::Unknown),
            (Method::POST, "/in/zoho/k1", Route::Unknown),
            (Method::POST, "//in/hubspot/k1", Route::Unknown),
            (Method::GET, "/", Route::Unknown),
            (Method::OPTIONS, "*", Route::Unknown),
        ] {
            assert_eq!(route(&method, path), expected, "{method} {path}");
        }
    }
}

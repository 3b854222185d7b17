//! Subscriptions of the file.

use super::*;

const SUBSCRIPTION: &str = r#"
[subscriptions]
ports = [443, 8443]
retry_most = "6h"
secret_overlap = "2h"
[[subscription]]
name = "crm-copy"
tenant = "acme"
url = "https://hooks.example.com:8443/crm?key=1"
secret_env = "HOOK"
second_secret_env = "OLD_HOOK"
objects = ["contact", "company"]
kinds = ["created", "updated"]
from = "start"
"#;

const HOOKS: [(&str, &str); 2] =
    [("HOOK", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"), ("OLD_HOOK", "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA")];

#[test]
fn a_subscription_is_read_whole() {
    let config = read(&format!("{EXAMPLE}{SUBSCRIPTION}"), &HOOKS).subscriptions;
    let one = &config.list[0];
    assert_eq!((one.name.as_str(), one.tenant.as_str(), one.keys.len()), ("crm-copy", "acme", 2));
    assert_eq!(one.url.to_string(), "https://hooks.example.com:8443/crm?key=1");
    assert_eq!(one.begin, headgate_schemas::stream::Begin::Start);
    assert_eq!((one.filter.objects.len(), one.filter.kinds.len(), one.filter.replayed), (2, 2, false));
    assert_eq!((config.policy.ports.as_slice(), config.policy.loopback), ([443, 8443].as_slice(), false));
    assert_eq!((config.pace.retry_most, config.overlap), (Duration::from_hours(6), Duration::from_hours(2)));
    assert_eq!((config.tenants, config.most, config.ca_file), (vec!["acme".to_owned()], 100, None));
    let hooks = [HOOKS[0], HOOKS[1], ("HEADGATE__SUBSCRIPTION__CRM_COPY__FROM", "now")];
    let one = &read(&format!("{EXAMPLE}{SUBSCRIPTION}"), &hooks).subscriptions.list[0];
    assert_eq!(one.begin, headgate_schemas::stream::Begin::Now);
}

#[test]
fn a_subscription_that_could_never_be_served_is_refused() {
    let table = [
        (
            "url = \"https://hooks.example.com:8443/crm?key=1\"",
            "url = \"http://hooks.example.com/\"",
            "only https:// is called",
        ),
        ("hooks.example.com:8443", "hooks.example.com:22", "port 22 is not one of [subscriptions] ports"),
        ("hooks.example.com:8443", "127.0.0.1:8443", "the host has a loopback address, which is not called"),
        ("hooks.example.com:8443", "169.254.169.254", "the host has a link-local address, which is not called"),
        ("hooks.example.com:8443", "[::ffff:10.0.0.1]", "the host has an embedded IPv4 address, which is not called"),
        (
            "\"updated\"",
            "\"renamed\"",
            "kind has an unknown name; the names are created, updated, deleted, restored, \
            merged, linked, unlinked, purged, touched, resync",
        ),
        (
            "secret_env = \"HOOK\"",
            "secret_env = \"HUBSPOT_TOKEN\"",
            "the secret must be whsec_ followed by the base64 of 24 to 64 bytes",
        ),
        ("from = \"start\"", "from = \"17\"", "\"17\" is not known"),
        ("[443, 8443]", "[443, 70000]", "not every entry of the list is a number that fits"),
        ("kinds = [", "kind = [", "this key is not known"),
    ];
    for (old, new, problem) in table {
        let text = format!("{EXAMPLE}{SUBSCRIPTION}").replacen(old, new, 1);
        let (faults, _) = parse(&text, Path::new("/etc/headgate"), &env(&HOOKS)).unwrap_err();
        let told: Vec<&str> = faults.iter().map(|fault| fault.problem.as_str()).collect();
        assert!(told.contains(&problem), "{new}: {told:?}");
    }
    let open = SUBSCRIPTION.replace("retry_most", "loopback = true\nretry_most");
    let warnings = read(&format!("{EXAMPLE}{open}"), &HOOKS).warnings;
    let problem = "whoever registers a subscription reaches every port of this machine, in clear";
    assert_eq!(warnings[0].problem, problem);
    let other = SUBSCRIPTION.replace("tenant = \"acme\"", "tenant = \"acne\"");
    let warnings = read(&format!("{EXAMPLE}{other}"), &HOOKS).warnings;
    assert_eq!(warnings[0].problem, "no connection belongs to tenant \"acne\", so nothing is sent");
}

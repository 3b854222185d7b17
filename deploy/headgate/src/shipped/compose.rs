//! The compose file: every service of ours is a command of the program over a configuration that can be started with, in
//! a container that can do nothing else.

use std::collections::BTreeSet;

use headgate_relay::config::StorePlace;
use yaml_rust2::{Yaml, YamlLoader};

use super::{Command, command, config, fits, root, text};
use crate::cli::ServeArgs;
use crate::config::{Config, Env};

const FILE: &str = "deploy/compose.yaml";
/// Where the configuration is mounted.
const MOUNTED: &str = "/etc/headgate/headgate.toml";

/// A service with what it takes over from the shared part.
struct Service {
    name: String,
    own: Yaml,
}

impl Service {
    /// A key of it, or of what it is merged with.
    fn get(&self, key: &str) -> &Yaml {
        if self.own[key].is_badvalue() { &self.own["<<"][key] } else { &self.own[key] }
    }

    fn words(&self, key: &str) -> Vec<&str> {
        let words = self.get(key).as_vec().unwrap_or_else(|| panic!("{}: {key} is no list", self.name));
        words.iter().map(|word| word.as_str().unwrap_or_else(|| panic!("{}: {word:?} is no text", self.name))).collect()
    }

    fn is_ours(&self) -> bool {
        self.get("image").as_str() == Some("headgate")
    }

    /// The variables, with the defaults of those that the caller may set.
    fn env(&self) -> Env {
        let pairs = self.get("environment").as_hash().unwrap().iter();
        pairs.map(|(name, value)| (name.as_str().unwrap().to_owned(), default(value.as_str().unwrap()))).collect()
    }

    /// The file of the tree that is mounted at `at`, read only.
    fn mounted(&self, at: &str) -> String {
        let mounts = self.words("volumes");
        let source = mounts.iter().find_map(|mount| mount.strip_suffix(&format!(":{at}:ro")));
        let source = source.unwrap_or_else(|| panic!("{}: nothing is mounted at {at}: {mounts:?}", self.name));
        format!("deploy/{}", source.strip_prefix("./").unwrap())
    }
}

/// `${NAME:-default}` where nothing is set.
fn default(value: &str) -> String {
    let inner = value.strip_prefix("${").and_then(|rest| rest.strip_suffix('}'));
    inner.map_or(value, |inner| inner.split_once(":-").unwrap_or_else(|| panic!("{value} has no default")).1).to_owned()
}

fn file() -> Yaml {
    YamlLoader::load_from_str(&text(FILE)).unwrap().remove(0)
}

fn services() -> Vec<Service> {
    let file = file();
    let services = file["services"].as_hash().unwrap();
    services.iter().map(|(name, own)| Service { name: name.as_str().unwrap().to_owned(), own: own.clone() }).collect()
}

#[test]
fn every_service_of_ours_is_a_command_over_a_good_configuration() {
    let mut commands = BTreeSet::new();
    for service in services().iter().filter(|service| service.is_ours()) {
        let words = service.words("command");
        commands.insert(words[0].to_owned());
        let started = command(["headgate"].into_iter().chain(words));
        let path = match &started {
            Command::Gateway(ServeArgs { config }) | Command::Relay(ServeArgs { config }) => config.clone(),
            Command::Check(args) => args.file.clone(),
            Command::Simulate(args) => args.hooks.clone().unwrap(),
            other => panic!("{}: {other:?}", service.name),
        };
        assert_eq!(path.to_str(), Some(MOUNTED), "{}", service.name);
        fits(&started, &config(&service.mounted(MOUNTED), &service.env()));
    }
    assert_eq!(commands, ["check", "gateway", "relay", "simulate"].map(str::to_owned).into());
}

#[test]
fn a_container_of_ours_can_do_nothing_else() {
    for service in services().iter().filter(|service| service.is_ours()) {
        assert_eq!(service.get("read_only").as_bool(), Some(true), "{}", service.name);
        assert_eq!(service.words("cap_drop"), ["ALL"], "{}", service.name);
        assert_eq!(service.words("security_opt"), ["no-new-privileges:true"], "{}", service.name);
        let built = &service.get("build")["dockerfile"];
        assert!(root().join(built.as_str().unwrap()).exists());
        let secrets = service.get("environment").as_hash().unwrap();
        assert!(secrets.values().all(|value| value.as_str().unwrap().starts_with("${")), "{}", service.name);
    }
}

#[test]
fn names_meet() {
    let (file, services) = (file(), services());
    let names: BTreeSet<&str> = services.iter().map(|service| service.name.as_str()).collect();
    let volumes = file["volumes"].as_hash().unwrap();
    for service in &services {
        for after in service.get("depends_on").as_hash().into_iter().flatten() {
            assert!(names.contains(after.0.as_str().unwrap()), "{} waits for {:?}", service.name, after.0);
        }
        for mount in service.words("volumes") {
            let source = mount.split(':').next().unwrap();
            let known = source.starts_with("./") || volumes.contains_key(&Yaml::String(source.to_owned()));
            assert!(known, "{}: {mount}", service.name);
        }
        let (_, tag) = service.get("image").as_str().unwrap().rsplit_once(':').unwrap_or(("", "built here"));
        assert_ne!(tag, "latest", "{}", service.name);
    }
    let ours = config("deploy/config/compose.toml", &super::named("deploy/config/compose.toml"));
    for connection in &ours.relay.connections {
        let host = connection.base_url.strip_prefix("http://").unwrap().split(':').next().unwrap();
        assert!(names.contains(host), "{} is at {host}, and there is no such service", connection.name);
    }
    assert!(text("deploy/config/compose.toml").contains("brokers = \"kafka:9092\""));
    assert_eq!(ours.gateway.public_url.as_deref(), Some("http://gateway:8080"));
    let StorePlace::Postgres(database) = &ours.relay.store.place else { panic!("a state that replicas can share") };
    assert_eq!(database.place(), "postgres:5432/headgate");
    assert!(["kafka", "gateway", "postgres"].iter().all(|host| names.contains(host)));
}

/// The whole program's configuration in a container of ours.
fn mounted(service: &Service) -> Config {
    config(&service.mounted(MOUNTED), &service.env())
}

#[test]
fn what_must_outlive_a_container_lies_on_a_volume_with_a_name() {
    for service in services().iter().filter(|service| matches!(service.name.as_str(), "gateway" | "relay")) {
        let key_file = mounted(service).relay.store.key_file;
        let folder = key_file.parent().unwrap().to_str().unwrap();
        let mounts = service.words("volumes");
        let mount = mounts.iter().find_map(|mount| mount.strip_suffix(&format!(":{folder}")));
        let volume = mount.unwrap_or_else(|| panic!("{}: {folder} goes with the container", service.name));
        assert!(!volume.contains('/'), "{}: {volume} is no volume", service.name);
    }
}

#[test]
fn ports_meet() {
    let services = services();
    let named = |name: &str| services.iter().find(|service| service.name == name).unwrap();
    let ours = mounted(named("gateway"));
    let port = ours.gateway.listen.port();
    assert_eq!(named("gateway").words("ports"), [format!("127.0.0.1:8080:{port}")]);
    let image = text("deploy/Containerfile");
    assert!(image.contains(&format!("\nEXPOSE {port}\n")), "the image names the port that answers");
    // What asks whether a container is ready asks where its admin API is.
    assert!(text("deploy/healthy").contains(&format!("address=${{1:-{}}}", ours.admin.listen)));
    let models = named("models").words("command").join(" ");
    for connection in &ours.relay.connections {
        let (_, port) = connection.base_url.rsplit_once(':').unwrap();
        assert!(models.contains(&format!("--{} 0.0.0.0:{port}", connection.system)), "{models}");
    }
    let listeners = named("kafka").get("environment")["KAFKA_ADVERTISED_LISTENERS"].as_str().unwrap().to_owned();
    assert_eq!(listeners, "PLAINTEXT://kafka:9092");
}

#[test]
fn the_broker_is_the_one_that_tests_run_against() {
    let image = services().iter().find(|service| service.name == "kafka").unwrap().get("image").clone();
    let (_, version) = image.as_str().unwrap().rsplit_once(':').unwrap();
    assert!(text("deploy/kafka/pom.xml").contains(&format!("<kafka.version>{version}</kafka.version>")), "{version}");
}

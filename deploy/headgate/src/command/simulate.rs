//! `headgate simulate`: the models of the CRMs alone, for people and for vendors' client libraries. With `--hooks` a
//! configuration of ours tells where the webhooks go and how they are signed, so that a `serve` beside it needs nothing
//! else. The models share no code with what they test.

use std::io::{Write as _, stdout};

use headgate_bench::sim::access::AccessOptions;
use headgate_bench::sim::hooks::{Hook, HookProvider};
use headgate_bench::sim::hubspot::HubspotOptions;
use headgate_bench::sim::salesforce::SalesforceOptions;
use headgate_bench::sim::{SimulateOptions, simulate};
use headgate_gateway::config::{Credential, EndpointConfig, ProviderName};
use headgate_relay::config::Auth;
use headgate_schemas::System;
use headgate_schemas::shutdown::Shutdown;
use secrecy::ExposeSecret as _;

use super::serve::drain;
use crate::cli::SimulateArgs;
use crate::config::{self, Config, Env};
use crate::exit::{Exit, Failure};
use crate::report;
use crate::signals::Signals;

/// How long a stop may take: a model has nothing to lose.
const GRACE: std::time::Duration = std::time::Duration::from_secs(5);

/// Runs the models until a signal.
pub(super) async fn run(args: &SimulateArgs, env: &Env) -> Result<Exit, Failure> {
    let config = match &args.hooks {
        Some(file) => Some(config::load(file, env).map_err(|error| report::refused(&error))?),
        None => None,
    };
    let options = options(args, config.as_ref())?;
    let mut signals = Signals::listen()?;
    let shutdown = Shutdown::new(GRACE);
    let running = simulate(options, &shutdown).await.map_err(|error| Failure::failed(error.to_string()))?;
    let models: Vec<String> = running.addresses().iter().map(|(system, url)| format!("{system}={url}")).collect();
    writeln!(stdout(), "ready {}", models.join(" "))?;
    stdout().flush()?;
    signals.next().await;
    Ok(if drain(&shutdown).await { Exit::Ok } else { Exit::Failed })
}

fn options(args: &SimulateArgs, config: Option<&Config>) -> Result<SimulateOptions, Failure> {
    let access =
        |system| AccessOptions { token: config.filter(|_| args.strict_auth).and_then(|c| token(c, system)), app: None };
    let hooks = config.map(hooks).transpose()?.unwrap_or_default();
    let hubspot = args.hubspot.map(|addr| {
        let default = HubspotOptions::default();
        let portal = config.and_then(|config| account(config, System::Hubspot)?.parse().ok());
        HubspotOptions {
            addr,
            portal_id: portal.unwrap_or(default.portal_id),
            access: access(System::Hubspot),
            hooks: hooks.clone(),
            ..default
        }
    });
    let salesforce = args.salesforce.map(|addr| SalesforceOptions {
        addr,
        access: access(System::Salesforce),
        hooks: hooks.clone(),
        ..SalesforceOptions::default()
    });
    Ok(SimulateOptions { hubspot, salesforce })
}

/// The token of the first connection of `system`.
fn token(config: &Config, system: System) -> Option<String> {
    let connection = config.relay.connections.iter().find(|connection| connection.system == system)?;
    let Auth::Bearer(token) = &connection.auth;
    Some(token.expose_secret().to_owned())
}

/// The account of the first connection of `system`.
fn account(config: &Config, system: System) -> Option<&str> {
    let mut connections = config.relay.connections.iter();
    connections.find(|connection| connection.system == system).map(|connection| connection.account.as_str())
}

/// Where the models post: the endpoints of the configuration, as its gateway knows itself.
fn hooks(config: &Config) -> Result<Vec<Hook>, Failure> {
    let Some(base) = &config.gateway.public_url else {
        let message =
            "the --hooks file does not say where its gateway is: set gateway.public_url, or a port in gateway.listen";
        return Err(Failure::new(Exit::Configuration, message));
    };
    Ok(config.gateway.endpoints.iter().filter_map(|endpoint| hook(base, endpoint)).collect())
}

fn hook(base: &str, endpoint: &EndpointConfig) -> Option<Hook> {
    let (provider, secret) = match (endpoint.provider, &endpoint.credential) {
        (ProviderName::Hubspot, Credential::Secrets(secrets)) => {
            (HookProvider::Hubspot, secrets.first()?.expose_secret().to_owned())
        }
        (ProviderName::Salesforce, _) => (HookProvider::Salesforce, endpoint.account.clone()),
        _ => return None,
    };
    Some(Hook { url: format!("{base}/in/{}/{}", endpoint.provider.as_str(), endpoint.key), provider, secret })
}

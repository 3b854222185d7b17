//! `headgate simulate`: the models of the CRMs alone, for people and for vendors' client libraries.

use std::io::{Write as _, stdout};
use std::time::Duration;

use headgate_bench::sim::access::{AccessOptions, OauthApp, Rotation};
use headgate_bench::sim::hooks::{Hook, HookProvider};
use headgate_bench::sim::hubspot::HubspotOptions;
use headgate_bench::sim::salesforce::SalesforceOptions;
use headgate_bench::sim::{SimulateOptions, simulate};
use headgate_gateway::config::{Credential, EndpointConfig, GatewayConfig, ProviderName};
use headgate_relay::config::{Auth, OauthConfig};
use headgate_relay::oauth::Grant;
use headgate_schemas::System;
use headgate_schemas::shutdown::Shutdown;
use secrecy::{ExposeSecret as _, SecretString};

use super::serve::drain;
use crate::cli::SimulateArgs;
use crate::config::{self, Config, Env};
use crate::exit::{Exit, Failure};
use crate::report;
use crate::signals::Signals;

/// Runs the models until a signal.
pub(super) async fn run(args: &SimulateArgs, env: &Env) -> Result<Exit, Failure> {
    let config = match &args.hooks {
        Some(file) => Some(config::load(file, env).map_err(|error| report::refused(&error))?),
        None => None,
    };
    let mut signals = Signals::listen()?;
    let shutdown = Shutdown::new(Duration::from_secs(5));
    let access = |system| {
        config.as_ref().filter(|_| args.strict_auth).map_or_else(AccessOptions::default, |c| access(c, system))
    };
    let hooks = |provider| config.as_ref().map_or_else(Vec::new, |c| hooks(&c.gateway, provider));
    let account = |system| {
        config.as_ref().and_then(|c| c.relay.connections.iter().find(|x| x.system == system)?.account.parse().ok())
    };
    let default = HubspotOptions::default();
    let options = SimulateOptions {
        hubspot: args.hubspot.map(|addr| HubspotOptions {
            addr,
            portal_id: account(System::Hubspot).unwrap_or(default.portal_id),
            access: access(System::Hubspot),
            hooks: hooks(HookProvider::Hubspot),
            ..default
        }),
        salesforce: args.salesforce.map(|addr| SalesforceOptions {
            addr,
            access: access(System::Salesforce),
            hooks: hooks(HookProvider::Salesforce),
            ..SalesforceOptions::default()
        }),
    };
    let running = simulate(options, &shutdown).await.map_err(|error| Failure::failed(format!("simulate: {error}")))?;
    let addresses: Vec<String> = running.addresses().iter().map(|(system, url)| format!("{system}={url}")).collect();
    writeln!(stdout(), "ready {}", addresses.join(" "))?;
    stdout().flush()?;
    signals.next().await;
    Ok(if drain(&shutdown).await { Exit::Ok } else { Exit::Failed })
}

/// Whom a model accepts: the first connection to its system.
fn access(config: &Config, system: System) -> AccessOptions {
    let connection = config.relay.connections.iter().find(|c| c.system == system);
    match connection.map(|connection| &connection.auth) {
        Some(Auth::Bearer(token)) => {
            AccessOptions { token: Some(token.expose_secret().to_owned()), ..AccessOptions::default() }
        }
        Some(Auth::Oauth(oauth)) => AccessOptions { app: Some(app(oauth)), ..AccessOptions::default() },
        None => AccessOptions::default(),
    }
}

fn app(oauth: &OauthConfig) -> OauthApp {
    let text = |secret: Option<&SecretString>| secret.map_or("", |secret| secret.expose_secret()).to_owned();
    let (client_secret, refresh_token) = match &oauth.grant {
        Grant::RefreshToken { client_secret, refresh_token } => (client_secret.as_ref(), Some(refresh_token)),
        Grant::ClientCredentials { client_secret } => (Some(client_secret), None),
        Grant::JwtBearer { .. } => (None, None),
    };
    OauthApp {
        client_id: oauth.client_id.clone(),
        client_secret: text(client_secret),
        refresh_token: text(refresh_token),
        expires_in: Duration::from_secs(1_800),
        // Whoever starts the program anew starts with the token of the file.
        rotation: Rotation::None,
    }
}

/// The endpoints of a configuration that a model posts to.
fn hooks(gateway: &GatewayConfig, provider: HookProvider) -> Vec<Hook> {
    let base = gateway.public_url.clone().unwrap_or_else(|| format!("http://{}", gateway.listen));
    gateway.endpoints.iter().filter_map(|endpoint| hook(endpoint, &base, provider)).collect()
}

fn hook(endpoint: &EndpointConfig, base: &str, provider: HookProvider) -> Option<Hook> {
    let secret = match (endpoint.provider, provider) {
        (ProviderName::Hubspot, HookProvider::Hubspot) => match &endpoint.credential {
            Credential::Secrets(secrets) => secrets.first()?.expose_secret().to_owned(),
            _ => return None,
        },
        (ProviderName::Salesforce, HookProvider::Salesforce) => endpoint.owners.sole()?.account.clone(),
        _ => return None,
    };
    Some(Hook { url: format!("{base}/in/{}/{}", endpoint.provider.as_str(), endpoint.key), provider, secret })
}

//! Starting any subset of the models by themselves.
//!
//! What is printed about it is the program's business.

use headgate_schemas::shutdown::Shutdown;

use super::SimError;
use super::hubspot::{Hubspot, HubspotOptions};
use super::salesforce::{Salesforce, SalesforceOptions};

/// Which models to start, each with its own set-up; hooks stand in the options of the model that posts to them.
#[derive(Clone, Debug, Default)]
pub struct SimulateOptions {
    /// A HubSpot account.
    pub hubspot: Option<HubspotOptions>,
    /// A Salesforce organisation.
    pub salesforce: Option<SalesforceOptions>,
}

/// The models that were started. They end with the shutdown.
#[derive(Clone, Debug, Default)]
pub struct Running {
    /// The HubSpot account.
    pub hubspot: Option<Hubspot>,
    /// The Salesforce organisation.
    pub salesforce: Option<Salesforce>,
}

impl Running {
    /// System and base address of each model.
    pub fn addresses(&self) -> Vec<(&'static str, String)> {
        let hubspot = self.hubspot.iter().map(|h| ("hubspot", h.base_url()));
        hubspot.chain(self.salesforce.iter().map(|s| ("salesforce", s.base_url()))).collect()
    }
}

/// Starts the models. HubSpot's own hooks get the events of API calls; edits through the handle are posted by hand.
///
/// # Errors
/// When an address cannot be bound or a hook's address is not an `http://` address; what was started by then ends
/// with the shutdown.
pub async fn simulate(options: SimulateOptions, shutdown: &Shutdown) -> Result<Running, SimError> {
    let mut running = Running::default();
    if let Some(hubspot) = options.hubspot {
        running.hubspot = Some(Hubspot::start(hubspot, shutdown).await?);
    }
    if let Some(salesforce) = options.salesforce {
        running.salesforce = Some(Salesforce::start(salesforce, shutdown).await?);
    }
    Ok(running)
}

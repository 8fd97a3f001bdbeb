//! Something else than the cluster's operators behind the Service of the webhook: a server of the test.
//!
//! Owns: who is behind the Service, certificates that the API server believes; all is as before at the end, also of a test
//! that fails. Does not own: what is answered.

use std::sync::Arc;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use lakeingest_tests::team::Team;
use rcgen::{CertificateParams, DnType, Issuer, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::PrivatePkcs8KeyDer;
use serde_json::{Value, json};
use xtask::cluster::NAMESPACE;

use super::Absence;

const SERVICE: &str = "lakeingest-webhook";

/// What the operator's authorities are called: a certificate names its authority so.
const AUTHORITY: &str = "lakeingest webhook authority";

/// That no operator of the cluster runs, and a port of this machine is behind the Service.
pub(super) struct StandIn<'a> {
    team: &'a Team,
    selector: Value,
    _absence: Absence<'a>,
}

impl<'a> StandIn<'a> {
    /// Nobody is behind the Service until [`Self::lead_to`].
    pub(super) fn begin(team: &'a Team) -> Self {
        let service: Value = serde_json::from_str(&operator(team, &["get", "service", SERVICE, "--output=json"]))
            .expect("kubectl writes JSON");
        let stand_in = Self { team, selector: service["spec"]["selector"].clone(), _absence: Absence::begin(team) };
        stand_in.select(&Value::Null).expect("the Service can be changed");
        stand_in
    }

    /// Leads the Service to a port of this machine.
    pub(super) fn lead_to(&self, port: u16) {
        let labels = json!({"kubernetes.io/service-name": SERVICE});
        let slice = json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": {"name": SLICE, "namespace": NAMESPACE, "labels": labels},
            "endpoints": [{"addresses": [self.team.cluster.host_address()]}],
            "ports": [{"name": "webhook", "protocol": "TCP", "port": port}],
        });
        self.team.cluster.apply(&slice.to_string()).expect("an EndpointSlice is taken");
    }

    fn select(&self, selector: &Value) -> anyhow::Result<String> {
        let patch = json!([{"op": "add", "path": "/spec/selector", "value": selector}]).to_string();
        let patch = ["patch", "service", SERVICE, "--type=json", "--patch", &patch];
        self.team.cluster.run([&["--namespace", NAMESPACE], patch.as_slice()].concat())
    }
}

/// The EndpointSlice that leads to the test.
const SLICE: &str = "lakeingest-webhook-stand-in";

impl Drop for StandIn<'_> {
    fn drop(&mut self) {
        let delete = ["--namespace", NAMESPACE, "delete", "endpointslice", SLICE, "--ignore-not-found"];
        for undone in [self.select(&self.selector), self.team.cluster.run(delete)] {
            if let Err(error) = undone {
                assert!(std::thread::panicking(), "{error:#}");
            }
        }
    }
}

/// Runs `kubectl` in the operator's namespace; it must succeed.
pub(super) fn operator(team: &Team, arguments: &[&str]) -> String {
    let arguments = [&["--namespace", NAMESPACE], arguments].concat();
    team.cluster.run(arguments).unwrap_or_else(|error| panic!("{error:#}"))
}

/// What a server needs to pass for the operator before the API server, with a certificate that ends in this year.
pub(super) fn tls_that_ends(team: &Team, year: i32) -> Arc<ServerConfig> {
    let path = |key: &str| format!("--output=jsonpath={{.data.tls\\.{key}}}");
    let key = operator(team, &["get", "secret", "lakeingest-webhook-ca", &path("key")]);
    let key = BASE64_STANDARD.decode(key).expect("an object has its bytes in base64");
    // The first key is that of the first authority, and each of them is believed.
    let key = KeyPair::from_pem(&String::from_utf8_lossy(&key)).expect("the operator's key is one");
    let mut authority = CertificateParams::default();
    authority.distinguished_name = rcgen::DistinguishedName::new();
    authority.distinguished_name.push(DnType::CommonName, AUTHORITY);
    let issuer = Issuer::new(authority, key);

    let leaf = KeyPair::generate().expect("a key can be made");
    let name = format!("{SERVICE}.{NAMESPACE}.svc");
    let mut parameters = CertificateParams::new(vec![name]).expect("the name is one");
    parameters.not_after = rcgen::date_time_ymd(year, 1, 1);
    let certificate = parameters.signed_by(&leaf, &issuer).expect("it can be signed");
    let private = PrivatePkcs8KeyDer::from(leaf.serialize_der());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the provider has them")
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], private.into())
        .expect("the key is that of the certificate");
    Arc::new(config)
}

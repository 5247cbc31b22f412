//! What the cases stand on: authorities and certificates, a server, a client, and an apiserver of a few lines.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use http::{Method, Request, Response};
use k8s_openapi::jiff::Timestamp;
use kube::client::Body;
use operator_metrics::authorize::Reviews;
use operator_metrics::certificate::Serving;
use operator_metrics::front_proxy::FrontProxy;
use operator_metrics::{MetricError, MetricSource, MetricValue, Selector, Server, serve};
use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_rustls::TlsConnector;

/// The name by which the apiserver knows the server.
const HOST: &str = "smallest-operator.smallest.svc";
/// Where values are asked for.
pub(crate) const LOAD: &str = "/apis/external.metrics.k8s.io/v1beta1/namespaces/speech/smallest_load";

/// An authority that signs client certificates.
pub(crate) struct Authority {
    params: CertificateParams,
    key: KeyPair,
    pub(crate) pem: String,
}

/// A client's certificate and its key.
pub(crate) struct Identity {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).unwrap().pem();
        Self { params, key, pem }
    }

    pub(crate) fn sign(&self, name: &str) -> Identity {
        self.sign_until(name, 4096)
    }

    pub(crate) fn sign_until(&self, name: &str, year: i32) -> Identity {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.distinguished_name.push(DnType::CommonName, name);
        params.not_after = rcgen::date_time_ymd(year, 1, 1);
        let certificate = params.signed_by(&key, &Issuer::from_params(&self.params, &self.key)).unwrap();
        let key = PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).unwrap();
        Identity { chain: vec![certificate.der().clone()], key }
    }
}

/// What the apiserver's `ConfigMap` says.
pub(crate) fn front_proxy(authority: &Authority, allowed: &str) -> Arc<FrontProxy> {
    let data = BTreeMap::from([
        ("requestheader-client-ca-file".to_owned(), authority.pem.clone()),
        ("requestheader-allowed-names".to_owned(), allowed.to_owned()),
        ("requestheader-username-headers".to_owned(), r#"["X-Remote-User"]"#.to_owned()),
        ("requestheader-group-headers".to_owned(), r#"["X-Remote-Group"]"#.to_owned()),
        ("requestheader-extra-headers-prefix".to_owned(), r#"["X-Remote-Extra-"]"#.to_owned()),
    ]);
    Arc::new(FrontProxy::parse(&data).unwrap())
}

/// One series of each metric: deployment `quickstart` has a load of 2.5, `away` is not known.
struct Source;

#[async_trait]
impl MetricSource for Source {
    fn names(&self) -> Vec<&'static str> {
        vec!["smallest_load", "smallest_queue_depth"]
    }

    async fn values(
        &self,
        namespace: &str,
        _: &str,
        selector: &Selector,
    ) -> Result<Vec<MetricValue>, MetricError> {
        let labels = |name: &str| BTreeMap::from([("deployment".to_owned(), name.to_owned())]);
        if namespace == "speech" && selector.matches(&labels("quickstart")) {
            return Ok(vec![MetricValue {
                labels: labels("quickstart"),
                milli: 2_500,
                at: Timestamp::now(),
            }]);
        }
        if selector.matches(&labels("away")) {
            return Err(MetricError::Unavailable { reason: "QueueUnavailable", message: "refused".into() });
        }
        Err(MetricError::NotFound("no such deployment".into()))
    }
}

/// A running server, and what decides over it.
pub(crate) struct Rig {
    address: SocketAddr,
    serving: Serving,
    pub(crate) front_proxy: watch::Sender<Option<Arc<FrontProxy>>>,
    /// Reviews that were asked for.
    pub(crate) asked: Asked,
    _certificate: watch::Sender<Option<Arc<rustls::sign::CertifiedKey>>>,
}

type Asked = Arc<Mutex<Vec<Value>>>;

impl Rig {
    /// A server that believes this front proxy, under an apiserver that denies user `eve` and fails for `mallory`.
    pub(crate) async fn new(front_proxy: Arc<FrontProxy>) -> Self {
        Self::with(Some(front_proxy)).await
    }

    /// The same, before the apiserver is known.
    pub(crate) async fn early() -> Self {
        Self::with(None).await
    }

    async fn with(front_proxy: Option<Arc<FrontProxy>>) -> Self {
        let serving = Serving::make(&[HOST.to_owned()], None, Timestamp::now()).unwrap();
        let (certificate, certified) = watch::channel(Some(serving.certified_key().unwrap()));
        let (front_proxy, believed) = watch::channel(front_proxy);
        let asked = Asked::default();
        let reviewed = asked.clone();
        let client = apiserver(move |_, _, review: Value| {
            let user = review["spec"]["user"].clone();
            reviewed.lock().unwrap().push(review["spec"].clone());
            match user.as_str() {
                Some("mallory") => {
                    (500, json!({ "kind": "Status", "code": 500, "message": "no", "reason": "Internal" }))
                }
                _ => (201, json!({ "spec": review["spec"], "status": { "allowed": user != "eve" } })),
            }
        });
        let server = Server {
            certificate: certified,
            front_proxy: believed,
            authorizer: Arc::new(Reviews::new(client)),
            source: Arc::new(Source),
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(serve(listener, server));
        Self { address, serving, front_proxy, asked, _certificate: certificate }
    }

    /// GET as a user, on a connection with this identity.
    pub(crate) async fn get(&self, identity: Option<&Identity>, user: &str, path: &str) -> (u16, Value) {
        let user = format!("X-Remote-User: {user}\r\nX-Remote-Group: system:authenticated\r\n");
        self.ask(identity, &format!("GET {path} HTTP/1.1\r\n{user}")).await
    }

    /// A request of one's own, up to its last header.
    pub(crate) async fn ask(&self, identity: Option<&Identity>, head: &str) -> (u16, Value) {
        let mut roots = RootCertStore::empty();
        for authority in CertificateDer::pem_slice_iter(self.serving.authorities.as_bytes()) {
            roots.add(authority.unwrap()).unwrap();
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let config = match identity {
            Some(Identity { chain, key }) => {
                builder.with_client_auth_cert(chain.clone(), key.clone_key()).unwrap()
            }
            None => builder.with_no_client_auth(),
        };
        let stream = TcpStream::connect(self.address).await.unwrap();
        let name = ServerName::try_from(HOST).unwrap();
        let mut stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap();
        let text = format!("{head}Host: {HOST}\r\nConnection: close\r\n\r\n");
        stream.write_all(text.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        // The end may come without TLS's good-bye.
        let _ = stream.read_to_end(&mut answer).await;
        parse(&String::from_utf8(answer).unwrap())
    }
}

fn parse(answer: &str) -> (u16, Value) {
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((answer, ""));
    let code = head.split_whitespace().nth(1).and_then(|code| code.parse().ok());
    let code = code.unwrap_or_else(|| panic!("no answer: {answer:?}"));
    (code, serde_json::from_str(body).unwrap_or(Value::Null))
}

/// A client of an apiserver that answers by a function of method, path and body.
pub(crate) fn apiserver<F>(answer: F) -> kube::Client
where
    F: Fn(Method, String, Value) -> (u16, Value) + Clone + Send + Sync + 'static,
{
    let service = tower::service_fn(move |request: Request<Body>| respond(answer.clone(), request));
    kube::Client::new(service, "default")
}

async fn respond<F>(answer: F, request: Request<Body>) -> Result<Response<Body>, std::io::Error>
where
    F: Fn(Method, String, Value) -> (u16, Value) + Send,
{
    let (parts, body) = request.into_parts();
    let body = body.collect_bytes().await.map_err(std::io::Error::other)?;
    let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
    let (code, body) = answer(parts.method, parts.uri.path().to_owned(), body);
    let response = Response::builder().status(code).header("content-type", "application/json");
    Ok(response.body(Body::from(body.to_string().into_bytes())).unwrap())
}

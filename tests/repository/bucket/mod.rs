//! A bucket like B2's in this process: always versioned, hidden by a delete, no conditional PUT.
//! It counts requests as B2 bills them, and fails as a plan says.

mod faults;
mod objects;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use s3s::auth::SimpleAuth;
use s3s::service::{S3Service, S3ServiceBuilder};
use tenantd::object_store::{RetryBudget, Retrying, S3Keys, S3Settings, S3Store, Uploads};

pub use faults::{Fault, Kind, Rule};
pub use objects::Objects;

pub const BUCKET: &str = "backups";
const REGION: &str = "test-1";
/// The node's key: it may store, read, list and hide.
const HOST: (&str, &str) = ("host-key", "host-secret");
/// The operator's: it may delete versions too.
const ADMIN: (&str, &str) = ("admin-key", "admin-secret");

/// The error that ends a connection.
type Broken = Box<dyn std::error::Error + Send + Sync>;
type Body = UnsyncBoxBody<Bytes, Broken>;

/// Requests by what B2 charges: A is free, B reads, C lists.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    pub put: usize,
    pub delete: usize,
    pub get: usize,
    pub head: usize,
    pub list: usize,
    pub other: usize,
}

/// A running server; it ends with its runtime.
#[derive(Debug, Clone)]
pub struct Bucket {
    pub objects: Arc<Objects>,
    plan: Arc<Mutex<Plan>>,
    address: SocketAddr,
}

#[derive(Debug, Default)]
struct Plan {
    counts: Counts,
    rules: Vec<Rule>,
    /// Rules that took effect.
    hits: usize,
}

impl Plan {
    /// Counts a request and gives what goes wrong with it.
    fn next(&mut self, kind: Kind) -> Option<Fault> {
        let counts = &mut self.counts;
        *match kind {
            Kind::Put => &mut counts.put,
            Kind::Delete => &mut counts.delete,
            Kind::Get => &mut counts.get,
            Kind::Head => &mut counts.head,
            Kind::List => &mut counts.list,
            Kind::Other => &mut counts.other,
        } += 1;
        let fault = self.rules.iter_mut().find_map(|rule| rule.strike(kind));
        self.hits += usize::from(fault.is_some());
        fault
    }
}

impl Bucket {
    pub async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let bucket = Self {
            objects: Objects::new(ADMIN.0),
            plan: Arc::default(),
            address: listener.local_addr().unwrap(),
        };
        let mut auth = SimpleAuth::new();
        for (id, secret) in [HOST, ADMIN] {
            auth.register(id.to_owned(), secret.into());
        }
        let mut builder = S3ServiceBuilder::new(Arc::clone(&bucket.objects).service());
        builder.set_auth(auth);
        let service = builder.build();
        let front = bucket.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (service, front) = (service.clone(), front.clone());
                tokio::spawn(async move {
                    let answer = service_fn(|request| front.answer(&service, request));
                    // A broken connection is the client's to notice.
                    let _ = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), answer)
                        .await;
                });
            }
        });
        bucket
    }

    /// The node's way to the bucket, and what it puts up with.
    pub fn store(&self) -> Retrying<S3Store> {
        Retrying::new(self.once(HOST), patience())
    }

    /// The operator's.
    pub fn admin(&self) -> Retrying<S3Store> {
        Retrying::new(self.once(ADMIN), patience())
    }

    /// One attempt per call, with the node's key.
    pub fn impatient(&self) -> S3Store {
        self.once(HOST)
    }

    /// One attempt per call, with the operator's key.
    pub fn admin_once(&self) -> S3Store {
        self.once(ADMIN)
    }

    fn once(&self, (id, secret): (&str, &str)) -> S3Store {
        let settings = S3Settings {
            bucket: BUCKET.to_owned(),
            prefix: "node/a".to_owned(),
            endpoint: format!("http://{}", self.address).parse().unwrap(),
            region: REGION.to_owned(),
            path_style: true,
            uploads: Uploads::default(),
            // Of a server that says nothing; long enough for one that is only busy.
            answer_within: Duration::from_millis(500),
        };
        let keys = S3Keys {
            access_key: id.into(),
            secret_key: secret.into(),
        };
        S3Store::new(&settings, &keys).unwrap()
    }

    /// What goes wrong from now on.
    pub fn fail(&self, rules: impl IntoIterator<Item = Rule>) {
        self.plan.lock().unwrap().rules.extend(rules);
    }

    /// All is well again; gives how often something went wrong.
    pub fn mend(&self) -> usize {
        let mut plan = self.plan.lock().unwrap();
        plan.rules.clear();
        std::mem::take(&mut plan.hits)
    }

    /// Requests since the last time.
    pub fn counted(&self) -> Counts {
        std::mem::take(&mut self.plan.lock().unwrap().counts)
    }

    async fn answer(
        &self,
        service: &S3Service,
        request: Request<Incoming>,
    ) -> Result<Response<Body>, Broken> {
        let kind = kind(&request);
        let fault = self.plan.lock().unwrap().next(kind);
        if let Some(Fault::CutUpload) = fault {
            // Some of the body has come; what is dropped here closes the connection.
            let _ = request.into_body().frame().await;
            return Err("cut".into());
        }
        let (head, body) = request.into_parts();
        let body = body.collect().await?.to_bytes();
        let once = async || {
            let request = Request::from_parts(head.clone(), s3s::Body::from(body.clone()));
            call(service, request).await
        };
        match fault {
            None | Some(Fault::CutUpload) => Ok(whole(once().await?)),
            Some(Fault::Refuse(status, wait)) => Ok(refusal(status, wait)),
            Some(Fault::CutBefore) => Err("cut".into()),
            Some(Fault::CutAfter) => {
                once().await?;
                Err("cut".into())
            }
            Some(Fault::SilentBefore) => std::future::pending().await,
            Some(Fault::SilentAfter) => {
                once().await?;
                std::future::pending().await
            }
            Some(Fault::Twice) => {
                once().await?;
                Ok(whole(once().await?))
            }
            Some(Fault::Stale(missing)) => {
                let _stale = self.objects.stale(missing);
                Ok(whole(once().await?))
            }
            Some(Fault::Flip) => Ok(whole(once().await?.map(|body| flipped(&body)))),
            Some(Fault::CutDownload) => Ok(halved(once().await?)),
        }
    }
}

/// Quick, so that a test waits for the plan and not for the policy.
fn patience() -> RetryBudget {
    RetryBudget {
        first: Duration::from_millis(1),
        longest: Duration::from_millis(20),
        total: Duration::from_mins(1),
    }
}

fn kind<B>(request: &Request<B>) -> Kind {
    let key = request.uri().path().trim_start_matches('/');
    let in_bucket = key.strip_prefix(BUCKET).unwrap_or_default();
    let query = request.uri().query().unwrap_or_default();
    let lists = query.contains("list-type") || query.contains("versions=");
    match *request.method() {
        Method::GET if in_bucket.len() > 1 => Kind::Get,
        Method::GET if lists => Kind::List,
        Method::HEAD => Kind::Head,
        Method::PUT => Kind::Put,
        Method::DELETE => Kind::Delete,
        _ => Kind::Other,
    }
}

async fn call(service: &S3Service, request: Request<s3s::Body>) -> Result<Response<Bytes>, Broken> {
    let answer = service.call(request).await.map_err(Broken::from)?;
    let (head, body) = answer.into_parts();
    let body = body.collect().await?.to_bytes();
    Ok(Response::from_parts(head, body))
}

fn whole(answer: Response<Bytes>) -> Response<Body> {
    answer.map(|body| Full::new(body).map_err(infallible).boxed_unsync())
}

fn infallible(never: Infallible) -> Broken {
    match never {}
}

fn refusal(status: u16, wait: Option<&str>) -> Response<Body> {
    let code = match status {
        403 => "AccessDenied",
        500 => "InternalError",
        _ => "SlowDown",
    };
    let text = format!("<Error><Code>{code}</Code><Message>as planned</Message></Error>");
    let mut answer = Response::builder().status(StatusCode::from_u16(status).unwrap());
    if let Some(wait) = wait {
        answer = answer.header("retry-after", wait);
    }
    whole(answer.body(Bytes::from(text)).unwrap())
}

fn flipped(body: &Bytes) -> Bytes {
    let mut bytes = body.to_vec();
    let middle = bytes.len() / 2;
    if let Some(byte) = bytes.get_mut(middle) {
        *byte ^= 1;
    }
    bytes.into()
}

/// Announces the whole body and breaks off in the middle.
fn halved(answer: Response<Bytes>) -> Response<Body> {
    let (mut head, body) = answer.into_parts();
    head.headers.insert("content-length", body.len().into());
    let half = body.slice(..body.len() / 2);
    let frames = stream::iter([Ok(Frame::data(half)), Err(Broken::from("cut"))]);
    Response::from_parts(head, StreamBody::new(frames).boxed_unsync())
}

//! What stands at fflow's default address: sends creates to the recording or to the real fflow, and looks at holder
//! to where the streams of either are.

use std::cell::RefCell;
use std::collections::HashSet;
use std::net::TcpListener;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use actix_web::dev::ServerHandle;
use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use anyhow::Context;

/// As the balancer of the system that this stands for.
const DEADLINE: Duration = Duration::from_secs(60);
/// The longest file of a stream, in bytes.
const BODY: usize = 64 << 20;

/// Which sessions and videos the real fflow works on; shared with the server's thread.
#[derive(Clone, Default)]
pub(super) struct Real(Arc<Mutex<HashSet<String>>>);

impl Real {
    /// From now on the flows of this session, and the streams of this video, are the real fflow's.
    pub(super) fn add(&self, session: &str, video: &str) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.extend([session.to_owned(), video.to_owned()]);
    }

    fn has(&self, id: &str) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains(id)
    }
}

/// The addresses behind, without a trailing slash.
#[derive(Clone)]
pub(super) struct Backends {
    pub(super) recorder: String,
    pub(super) recorder_holder: String,
    pub(super) fflow: String,
    pub(super) holder: String,
}

/// A running front; dropping it ends its server.
pub(super) struct Front {
    pub(super) real: Real,
    pub(super) port: u16,
    handle: ServerHandle,
}

impl Front {
    /// Listens on a free loopback port; runs on the current actix system.
    ///
    /// # Errors
    /// When no port can be bound.
    pub(super) fn start(backends: Backends) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).context("cannot listen")?;
        let port = listener.local_addr()?.port();
        let real = Real::default();
        let state = (backends, real.clone());
        let server = HttpServer::new(move || {
            App::new()
                .app_data(web::Data::new(state.clone()))
                .route("/holder/{video}/{file:.*}", web::route().to(holder))
                .route("/{name}", web::post().to(create))
        })
        .workers(1)
        .shutdown_timeout(0)
        .disable_signals()
        .listen(listener)?
        .run();
        let handle = server.handle();
        actix_rt::spawn(server);
        Ok(Self { real, port, handle })
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        // The command is sent by the call itself.
        drop(self.handle.stop(false));
    }
}

type State = web::Data<(Backends, Real)>;

async fn create(request: HttpRequest, state: State) -> HttpResponse {
    let (backends, real) = state.get_ref();
    let name = request.match_info().query("name");
    let session = name.split('~').next().unwrap_or_default();
    let base = if real.has(session) { &backends.fflow } else { &backends.recorder };
    pass("POST", &format!("{base}/{name}")).await
}

/// A HEAD is asked as a GET, and its answer goes without the body but with its length.
async fn holder(request: HttpRequest, state: State) -> HttpResponse {
    let (backends, real) = state.get_ref();
    let (video, file) = (request.match_info().query("video"), request.match_info().query("file"));
    let base = if real.has(video) { &backends.holder } else { &backends.recorder_holder };
    pass("GET", &format!("{base}/{video}/{file}")).await
}

thread_local! {
    static CLIENT: RefCell<Option<Rc<awc::Client>>> = const { RefCell::new(None) };
}

fn client() -> Rc<awc::Client> {
    CLIENT.with_borrow_mut(|client| {
        let new = || Rc::new(awc::Client::builder().timeout(DEADLINE).disable_redirects().finish());
        Rc::clone(client.get_or_insert_with(new))
    })
}

/// Hands a call without a body on, and its answer back. Each goes over a connection of its own: one that was kept may
/// be dead, and a create must not be sent twice.
async fn pass(method: &str, url: &str) -> HttpResponse {
    let client = client();
    let request = if method == "POST" { client.post(url) } else { client.get(url) };
    let Ok(mut answer) = request.force_close().send().await else {
        return HttpResponse::BadGateway().finish();
    };
    let kind = answer.headers().get("content-type").cloned();
    let Ok(body) = answer.body().limit(BODY).await else { return HttpResponse::BadGateway().finish() };
    let mut built = HttpResponse::build(answer.status());
    if let Some(kind) = kind {
        built.insert_header(("content-type", kind));
    }
    built.body(body)
}

//! The web viewer: a page, and a gRPC server that feeds it.

use std::any::Any;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::time::Duration;

use camino::Utf8PathBuf;
use rerun::grpc_server::GrpcServerSink;
use rerun::log::LogMsg;
use rerun::sink::LogSink;
use rerun::web_viewer::WebViewerConfig;
use rerun::{MemoryLimit, PlaybackBehavior, ServerOptions};

use crate::{VizError, inspect};

/// How long [`WebServer::serve_files`] waits for the server to take the whole recordings.
const FLUSH_TIMEOUT: Duration = Duration::from_mins(1);

/// Where the web viewer listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebOptions {
    /// Address to bind. Anything but a loopback address shows the recording to the network.
    pub bind: IpAddr,
    /// Port of the page; 0 takes a free one.
    pub web_port: u16,
    /// Port of the data; 0 takes a free one.
    pub grpc_port: u16,
    /// Opens the page in the default browser.
    pub open_browser: bool,
    /// Most bytes of recordings that are kept for viewers that connect later; the oldest go first.
    pub memory_bytes: u64,
}

impl Default for WebOptions {
    /// Loopback, rerun's usual ports (9090, 9876), no browser, 2 GiB.
    fn default() -> Self {
        Self {
            bind: IpAddr::V4(Ipv4Addr::LOCALHOST),
            web_port: 9090,
            grpc_port: 9876,
            open_browser: false,
            memory_bytes: 2 << 30,
        }
    }
}

/// A running web viewer. It serves until it is dropped.
pub struct WebServer {
    url: String,
    grpc: GrpcServerSink,
    /// Serves the page while it lives.
    _page: Box<dyn Any + Send>,
}

impl WebServer {
    /// Starts a viewer without data.
    ///
    /// # Errors
    /// [`VizError::Serve`] if a port is taken or the address is not ours.
    pub fn start(options: &WebOptions) -> Result<Self, VizError> {
        let grpc_port = free_port(options.bind, options.grpc_port)?;
        let host = match options.bind {
            address if address.is_unspecified() => "127.0.0.1".to_owned(),
            IpAddr::V4(address) => address.to_string(),
            IpAddr::V6(address) => format!("[{address}]"),
        };
        let origins = if options.bind.is_loopback() {
            Vec::new()
        } else {
            vec!["*".to_owned()]
        };
        let server_options = ServerOptions {
            playback_behavior: PlaybackBehavior::OldestFirst,
            memory_limit: MemoryLimit::from_bytes(options.memory_bytes),
            cors_allowed_origins: origins,
        };
        let bind = SocketAddr::new(options.bind, 0).ip().to_string();
        let grpc_bind = if options.bind.is_ipv6() {
            format!("[{bind}]")
        } else {
            bind.clone()
        };
        let grpc = GrpcServerSink::new(&grpc_bind, grpc_port, server_options)
            .map_err(|error| serve_error(options.bind, grpc_port, &error))?;

        let source = format!("rerun+http://{host}:{grpc_port}/proxy");
        let page = WebViewerConfig {
            bind_ip: bind,
            web_port: options.web_port.into(),
            connect_to: vec![source.clone()],
            open_browser: options.open_browser,
            ..WebViewerConfig::default()
        }
        .host_web_viewer()
        .map_err(|error| serve_error(options.bind, options.web_port, &error))?;
        let url = format!("{}/?url={}", page.server_url(), source.replace('+', "%2B"));
        Ok(Self {
            url,
            grpc,
            _page: Box::new(page),
        })
    }

    /// Starts a viewer that shows recordings.
    ///
    /// # Errors
    /// [`VizError::Open`], [`VizError::Decode`], [`VizError::Serve`].
    pub fn serve_files(paths: &[Utf8PathBuf], options: &WebOptions) -> Result<Self, VizError> {
        let mut messages = Vec::new();
        for path in paths {
            messages.extend(inspect::read_messages(path)?);
        }
        let server = Self::start(options)?;
        for message in messages {
            server.send(message);
        }
        server
            .grpc
            .flush_blocking(FLUSH_TIMEOUT)
            .map_err(|error| VizError::Serve {
                address: server.url.clone(),
                reason: error.to_string(),
            })?;
        Ok(server)
    }

    /// Address of the page, with the data source in its query: open it in a browser.
    pub fn url(&self) -> &str {
        &self.url
    }

    pub(crate) fn send(&self, message: LogMsg) {
        self.grpc.send(message);
    }
}

impl std::fmt::Debug for WebServer {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("WebServer")
            .field("url", &self.url)
            .finish_non_exhaustive()
    }
}

/// Checks that a port can be bound, or finds one. The gRPC server binds on its own thread, where a failure is only logged.
fn free_port(address: IpAddr, port: u16) -> Result<u16, VizError> {
    TcpListener::bind((address, port))
        .and_then(|listener| listener.local_addr())
        .map(|bound| bound.port())
        .map_err(|error| serve_error(address, port, &error))
}

fn serve_error(address: IpAddr, port: u16, error: &dyn std::fmt::Display) -> VizError {
    VizError::Serve {
        address: SocketAddr::new(address, port).to_string(),
        reason: error.to_string(),
    }
}

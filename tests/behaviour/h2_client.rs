//! A conforming HTTP/2 client: concurrent requests on one connection, and their outcomes.

use std::net::SocketAddr;

use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use http1::Request;

use crate::site::{PATIENCE, Reply, Server};

/// Outcome of a request: a response, whole or cut, or the code of the stream's reset or the connection's end.
#[derive(Debug)]
pub struct Got {
    pub reply: Reply,
    /// `None` if the response is complete.
    pub cut: Option<h2::Reason>,
}

/// GET `target`, with more headers.
pub fn get(target: &str, fields: &[(&str, &str)]) -> Request<()> {
    request("GET", target, fields)
}

pub fn request(method: &str, target: &str, fields: &[(&str, &str)]) -> Request<()> {
    let uri = format!("http://x{target}");
    let request = Request::builder().method(method).uri(uri);
    fields.iter().fold(request, |request, (name, value)| request.header(*name, *value)).body(()).unwrap()
}

/// Sends all `requests` at once, on one connection.
pub fn ask_all(server: &Server, requests: Vec<Request<()>>) -> Vec<Got> {
    ask_at(server.address, requests)
}

pub fn ask(server: &Server, request: Request<()>) -> Got {
    ask_all(server, vec![request]).remove(0)
}

pub fn ask_at(address: SocketAddr, requests: Vec<Request<()>>) -> Vec<Got> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let talk = async {
        let stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let (mut client, connection) = h2::client::Builder::new()
            .initial_window_size(1 << 20)
            .initial_connection_window_size(1 << 24)
            .handshake::<_, Bytes>(stream)
            .await
            .unwrap();
        tokio::spawn(connection);
        let mut responses = Vec::new();
        for request in requests {
            responses.push(begin(&mut client, request).await);
        }
        let reading = responses.into_iter().map(|response| tokio::spawn(finish(response)));
        let mut got = Vec::new();
        for reading in reading.collect::<Vec<_>>() {
            got.push(reading.await.unwrap());
        }
        got
    };
    runtime.block_on(async { tokio::time::timeout(PATIENCE, talk).await.expect("answers in time") })
}

async fn begin(client: &mut SendRequest<Bytes>, request: Request<()>) -> ResponseFuture {
    let mut ready = client.clone().ready().await.unwrap();
    ready.send_request(request, true).unwrap().0
}

async fn finish(response: ResponseFuture) -> Got {
    let mut reply = Reply { status: 0, fields: Vec::new(), body: Vec::new() };
    let reason = |error: &h2::Error| error.reason().unwrap_or(h2::Reason::NO_ERROR);
    let response = match response.await {
        Ok(response) => response,
        Err(error) => return Got { reply, cut: Some(reason(&error)) },
    };
    reply.status = response.status().as_u16();
    let text = |value: &http1::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    reply.fields = response.headers().iter().map(|(name, value)| (name.to_string(), text(value))).collect();
    let mut body = response.into_body();
    while let Some(bytes) = body.data().await {
        match bytes {
            Ok(bytes) => {
                reply.body.extend_from_slice(&bytes);
                let _ = body.flow_control().release_capacity(bytes.len());
            }
            Err(error) => return Got { cut: Some(reason(&error)), reply },
        }
    }
    Got { reply, cut: None }
}

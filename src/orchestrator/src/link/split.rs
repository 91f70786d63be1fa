//! Two size limits for one service: control messages are small, bulk messages are not.

use std::convert::Infallible;
use std::task::{Context, Poll};

use tonic::body::Body;
use tonic::server::NamedService;
use tower::Service;
use wire::v1::link_service_server::LinkServiceServer;

use super::Link;
use crate::config;

const CONNECT: &str = "/robotd.link.v1.LinkService/Connect";

/// The service twice, each with its own limit; the call's name decides.
#[derive(Clone)]
pub(crate) struct Split {
    control: LinkServiceServer<Link>,
    bulk: LinkServiceServer<Link>,
}

impl Split {
    pub(crate) fn new(link: Link) -> Self {
        let sized = |limit| {
            LinkServiceServer::new(link.clone())
                .max_decoding_message_size(limit)
                .max_encoding_message_size(limit)
        };
        Self {
            control: sized(config::MAX_CONTROL),
            // A frame may have its full size beside its other fields.
            bulk: sized(config::MAX_BULK + (64 << 10)),
        }
    }
}

impl NamedService for Split {
    const NAME: &'static str = <LinkServiceServer<Link> as NamedService>::NAME;
}

impl Service<http::Request<Body>> for Split {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = <LinkServiceServer<Link> as Service<http::Request<Body>>>::Future;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        match request.uri().path() {
            CONNECT => self.control.call(request),
            _ => self.bulk.call(request),
        }
    }
}

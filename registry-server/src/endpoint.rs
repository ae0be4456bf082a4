//! Resources and their methods. One that has no such method says so, and which it has (RFC 9110, 15.5.6).

use actix_web::{
    FromRequest, Handler, HttpRequest, HttpResponse, Responder, Route, dev::Service as _, guard,
    web,
};

use crate::{api::ApiRefusal, edge::set_route};

/// A method of a resource, and what answers it.
pub(crate) struct Endpoint {
    allow: &'static str,
    route: Route,
}

/// GET, and HEAD beside it.
pub(crate) fn get<F, Args>(handler: F) -> Endpoint
where
    F: Handler<Args>,
    Args: FromRequest + 'static,
    F::Output: Responder + 'static,
{
    let either = guard::Any(guard::Get()).or(guard::Head());
    Endpoint {
        allow: "GET, HEAD",
        route: web::route().guard(either).to(handler),
    }
}

/// A function for each of the other methods, of its name.
macro_rules! methods {
    ($($name:ident as $method:literal)*) => {$(
        pub(crate) fn $name<F, Args>(handler: F) -> Endpoint
        where
            F: Handler<Args>,
            Args: FromRequest + 'static,
            F::Output: Responder + 'static,
        {
            Endpoint {
                allow: $method,
                route: web::$name().to(handler),
            }
        }
    )*};
}

methods! {
    post as "POST"
    put as "PUT"
    patch as "PATCH"
    delete as "DELETE"
}

/// Adds a resource at `path`; `route` is what metrics and logs call it.
pub(crate) fn at<const N: usize>(
    scope: &mut web::ServiceConfig,
    (route, path): (&'static str, &str),
    endpoints: [Endpoint; N],
) {
    let allow = endpoints
        .each_ref()
        .map(|endpoint| endpoint.allow)
        .join(", ");
    let mut resource = web::resource(path);
    for endpoint in endpoints {
        resource = resource.route(endpoint.route);
    }
    let no_method = move |request: HttpRequest| {
        let method = request.method().as_str().chars().take(40).collect();
        let refusal = ApiRefusal::Method(method, allow.clone());
        async { Err::<HttpResponse, _>(refusal) }
    };
    let resource = resource
        .default_service(web::to(no_method))
        .wrap_fn(move |request, service| {
            set_route(route);
            service.call(request)
        });
    scope.service(resource);
}

/// Adds a resource whose path is what metrics and logs call it.
pub(crate) fn resource<const N: usize>(
    app: &mut web::ServiceConfig,
    route: &'static str,
    endpoints: [Endpoint; N],
) {
    at(app, (route, route), endpoints);
}

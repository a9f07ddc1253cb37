//! Style sheet, script and sign. They are in the binary, and the same for everyone.

use axum::http::header;
use axum::response::IntoResponse;
use squall_experiments::report::STYLE;

const OWN_STYLE: &str = include_str!("style.css");
const SCRIPT: &str = include_str!("live.js");
const ICON: &str = "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 32 32\"><rect width=\"32\" height=\"32\" rx=\"7\" fill=\"#1d4f6e\"/>\
    <path d=\"M6 12h13a4 4 0 1 0-4-4M6 17h18a4 4 0 1 1-4 4M6 22h8\" fill=\"none\" stroke=\"#fff\" stroke-width=\"2.4\" stroke-linecap=\"round\"/></svg>";

/// The reports' colours and plots, then what only pages have.
pub fn sheet() -> String {
    format!("{STYLE}\n{OWN_STYLE}")
}

/// A short while: the next version of the binary has others.
const A_WHILE: (header::HeaderName, &str) = (header::CACHE_CONTROL, "max-age=60");

pub async fn style() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "text/css; charset=utf-8"), A_WHILE], sheet())
}

pub async fn script() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "text/javascript; charset=utf-8"), A_WHILE], SCRIPT)
}

pub async fn icon() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "image/svg+xml"), A_WHILE], ICON)
}

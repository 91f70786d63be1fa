//! `job watch`: a line per change, or a file per picture, until the job ends.

use std::path::Path;

use serde_json::{Value, json};

use super::arguments::{Format, Watch};
use super::canvas::Canvas;
use super::files::{Folder, append};
use super::{one, render, say};
use crate::admin::{Client, Frame, Request};
use crate::refused::Refused;

pub(super) async fn run(watch: Watch) -> Result<(), Refused> {
    let data_dir = &watch.place.data_dir;
    let job = watch.job.clone();
    if watch.out.is_none() && !watch.json {
        let shown = one(data_dir, Request::JobPage { job: job.clone() }).await?;
        if let Some(page) = shown["page"].as_str() {
            say(&format!("in a browser, once: {page}"))?;
        }
    }
    let request = Request::JobScreen {
        job,
        most_per_second: watch.fps,
        pictures: watch.out.is_some(),
    };
    let mut client = Client::ask(data_dir, &request).await?;
    let mut files = match &watch.out {
        Some(out) => Some(Files::open(out, watch.format)?),
        None => None,
    };
    while let Frame::Json(facts) = client.next().await? {
        let file = match &mut files {
            Some(files) => files.take(&mut client, &facts).await?,
            None => None,
        };
        say(&match watch.json {
            true => brief(&facts, file.as_deref()).to_string(),
            false => line(&facts, file.as_deref()),
        })?;
    }
    Ok(())
}

/// Where pictures are written.
struct Files {
    folder: Folder,
    format: Format,
    canvas: Canvas,
    written: u32,
}

impl Files {
    fn open(out: &Path, format: Format) -> Result<Self, Refused> {
        Ok(Self {
            folder: Folder::open(out)?,
            format,
            canvas: Canvas::default(),
            written: 0,
        })
    }

    /// Takes the pictures of a change and writes the whole one; its path.
    async fn take(
        &mut self,
        client: &mut Client,
        facts: &Value,
    ) -> Result<Option<String>, Refused> {
        if facts["width"].as_u64().is_some_and(|width| width > 0) {
            self.canvas.resize(facts)?;
        }
        let parts = facts["parts"].as_array().map(Vec::as_slice);
        for part in parts.unwrap_or_default() {
            let picture = picture(client).await?;
            self.canvas.put(part, &picture)?;
        }
        if facts["changed"] == 0 || self.canvas.is_empty() {
            return Ok(None);
        }
        self.written += 1;
        let end = match self.format {
            Format::Png => "png",
            Format::Webp => "webp",
        };
        let (path, mut file) = self.folder.create(&format!("{:06}.{end}", self.written))?;
        append(&path, &mut file, &self.canvas.file(self.format)?)?;
        Ok(Some(path.display().to_string()))
    }
}

/// The bytes of one picture.
async fn picture(client: &mut Client) -> Result<Vec<u8>, Refused> {
    let mut picture = Vec::new();
    loop {
        match client.next().await? {
            Frame::Bytes(bytes) if bytes.is_empty() => return Ok(picture),
            Frame::Bytes(bytes) => picture.extend(bytes),
            _ => {
                let text = "a picture was expected";
                return Err(Refused::invalid("ADMIN_FRAME_INVALID", text));
            }
        }
    }
}

/// The facts without the places of tiles.
fn brief(facts: &Value, file: Option<&str>) -> Value {
    let mut brief = facts.clone();
    if let Some(brief) = brief.as_object_mut() {
        brief.remove("parts");
        brief.insert("file".to_owned(), json!(file));
    }
    brief
}

fn line(facts: &Value, file: Option<&str>) -> String {
    let code = render::field(facts, "code");
    let because = match code.as_str() {
        "-" => String::new(),
        code => format!(" ({code})"),
    };
    let what = match facts["standing"].as_str() {
        Some("asked") => "the agent is asked to show its screen".to_owned(),
        Some("away") => "the agent is not connected".to_owned(),
        Some("unable") => format!("the agent can't show the screen now{because}"),
        Some("over") => format!("it is over{because}"),
        _ => return shown(facts, file),
    };
    match facts["at_unix_ms"].as_u64() {
        Some(0) | None => what,
        Some(_) => format!("{}  {what}", render::field(facts, "at_unix_ms")),
    }
}

fn shown(facts: &Value, file: Option<&str>) -> String {
    let mut text = format!(
        "{}  {}x{}",
        render::field(facts, "at_unix_ms"),
        render::field(facts, "width"),
        render::field(facts, "height")
    );
    match facts["pause"].as_str() {
        Some(_) => text += &format!("  paused: {}", render::field(facts, "pause")),
        None => {
            let whole = if facts["whole"] == true { ", all" } else { "" };
            text += &format!("  {} tiles{whole}", render::field(facts, "changed"));
        }
    }
    let masked = render::areas(facts);
    if !masked.is_empty() {
        text += &format!("  masked {masked}");
    }
    if let Some(file) = file {
        text += &format!("  {file}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts() -> Value {
        json!({
            "standing": "shown", "code": "", "at_unix_ms": 1_795_219_200_123_u64, "width": 1280,
            "height": 800, "pause": null, "whole": false, "changed": 12,
            "masked": [{"x": 10, "y": 0, "width": 300, "height": 20, "reason": "area"}],
            "parts": [{"bytes": 1, "columns": 1, "tiles": [1], "places": [0]}],
        })
    }

    #[test]
    fn a_change_is_one_line() {
        let time = "2026-11-21T00:00:00.123Z";
        assert_eq!(
            line(&facts(), None),
            format!("{time}  1280x800  12 tiles  masked 10,0,300x20")
        );
        let mut whole = facts();
        (whole["whole"], whole["masked"]) = (json!(true), json!([]));
        assert_eq!(
            line(&whole, Some("out/000001.png")),
            format!("{time}  1280x800  12 tiles, all  out/000001.png")
        );
        let mut paused = whole;
        paused["pause"] = json!("secret");
        assert_eq!(
            line(&paused, None),
            format!("{time}  1280x800  paused: secret")
        );
    }

    #[test]
    fn where_the_view_stands_is_one_line_too() {
        let mut asked = facts();
        (asked["standing"], asked["at_unix_ms"]) = (json!("asked"), json!(0));
        assert_eq!(line(&asked, None), "the agent is asked to show its screen");
        asked["standing"] = json!("unable");
        asked["code"] = json!("SCREEN_UNAVAILABLE");
        assert_eq!(
            line(&asked, None),
            "the agent can't show the screen now (SCREEN_UNAVAILABLE)"
        );
    }

    #[test]
    fn a_line_of_json_has_no_places_of_tiles() {
        let brief = brief(&facts(), Some("a.png"));
        assert_eq!(brief["file"], "a.png");
        assert!(brief.get("parts").is_none() && brief["changed"] == 12);
    }
}

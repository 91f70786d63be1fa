//! What is not pictured, as people write it.

use order::{Area, WindowMask};

/// `X,Y,WIDTHxHEIGHT`.
pub(super) fn area(text: &str) -> Result<Area, String> {
    let numbers = || {
        let (x, rest) = text.split_once(',')?;
        let (y, size) = rest.split_once(',')?;
        let (width, height) = size.split_once('x')?;
        Some(Area {
            x: x.parse().ok()?,
            y: y.parse().ok()?,
            width: width.parse().ok()?,
            height: height.parse().ok()?,
        })
    };
    numbers().ok_or_else(|| format!("{text:?} is not X,Y,WIDTHxHEIGHT"))
}

/// `class=C`, `title=T` or `class=C,title=T`. A title goes to the end, commas and all.
pub(super) fn window(text: &str) -> Result<WindowMask, String> {
    let wrong = || format!("{text:?} is not class=C, title=T or class=C,title=T");
    let (class, title) = match (text.strip_prefix("class="), text.strip_prefix("title=")) {
        (Some(rest), _) => match rest.split_once(",title=") {
            Some((class, title)) => (Some(class), Some(title)),
            None => (Some(rest), None),
        },
        (None, Some(title)) => (None, Some(title)),
        (None, None) => return Err(wrong()),
    };
    let given = |text: Option<&str>| text.is_none_or(|text| !text.is_empty());
    match given(class) && given(title) {
        true => Ok(WindowMask {
            class: class.map(str::to_owned),
            title: title.map(str::to_owned),
        }),
        false => Err(wrong()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn areas_read_as_people_write_them() {
        let expected = Area {
            x: 10,
            y: 0,
            width: 300,
            height: 20,
        };
        assert_eq!(area("10,0,300x20"), Ok(expected));
        for wrong in ["", "1,2,3", "1,2,3x", "-1,2,3x4", "1,2,3x4x5", "1 ,2,3x4"] {
            assert!(area(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn windows_read_as_people_write_them() {
        let mask = |class: Option<&str>, title: Option<&str>| {
            Ok(WindowMask {
                class: class.map(str::to_owned),
                title: title.map(str::to_owned),
            })
        };
        assert_eq!(window("class=xterm"), mask(Some("xterm"), None));
        assert_eq!(window("title=a, b=c"), mask(None, Some("a, b=c")));
        assert_eq!(
            window("class=x,title=y,title=z"),
            mask(Some("x"), Some("y,title=z"))
        );
        for wrong in [
            "",
            "xterm",
            "class=",
            "title=",
            "class=,title=x",
            "class=x,title=",
        ] {
            assert!(window(wrong).is_err(), "{wrong}");
        }
    }
}

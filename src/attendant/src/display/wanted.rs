//! Which windows the order wants masked, by what they say of themselves.

use order::WindowMask;

/// What a window says of itself.
pub(super) enum Text {
    Said(String),
    TooLong,
}

impl Text {
    fn is(&self, wanted: impl FnOnce(&str) -> bool) -> bool {
        match self {
            Self::Said(text) => wanted(text),
            Self::TooLong => true,
        }
    }
}

pub(super) const NOTHING: Text = Text::Said(String::new());

/// Masks in the form in which they are compared.
#[derive(Debug)]
pub(super) struct Wanted(Vec<WindowMask>);

impl Wanted {
    pub(super) fn new(masks: &[WindowMask]) -> Self {
        let lower = |text: &Option<String>| text.as_ref().map(|text| text.to_lowercase());
        let masks = masks.iter().map(|mask| WindowMask {
            class: lower(&mask.class),
            title: lower(&mask.title),
        });
        Self(masks.collect())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn fits(&self, class: &Text, title: &Text) -> bool {
        let class_fits = |wanted: &str| class.is(|said| said.split('\0').any(|own| own == wanted));
        let title_fits = |wanted: &str| title.is(|said| said.contains(wanted));
        self.0.iter().any(|mask| {
            (mask.class.is_some() || mask.title.is_some())
                && mask.class.as_deref().is_none_or(class_fits)
                && mask.title.as_deref().is_none_or(title_fits)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(class: Option<&str>, title: Option<&str>) -> Wanted {
        let [class, title] = [class, title].map(|text| text.map(str::to_owned));
        Wanted::new(&[WindowMask { class, title }])
    }

    fn said(text: &str) -> Text {
        Text::Said(text.to_lowercase())
    }

    #[test]
    fn a_class_fits_whole_a_title_in_part_and_both_when_both_are_given() {
        let (class, title) = (said("vault\0KeePassXC\0"), said("Passwords – KeePassXC"));
        for (mask, fits) in [
            (wanted(Some("keepassxc"), None), true),
            (wanted(Some("VAULT"), None), true),
            (wanted(Some("keepass"), None), false),
            (wanted(None, Some("PASSWORDS")), true),
            (wanted(Some("vault"), Some("words – k")), true),
            (wanted(Some("vault"), Some("mail")), false),
            (wanted(Some("mail"), Some("passwords")), false),
            (wanted(None, None), false),
        ] {
            assert_eq!(mask.fits(&class, &title), fits, "{mask:?}");
        }
    }

    #[test]
    fn what_is_too_long_to_be_read_fits() {
        assert!(wanted(None, Some("x")).fits(&NOTHING, &Text::TooLong));
        assert!(wanted(Some("x"), None).fits(&Text::TooLong, &NOTHING));
        assert!(!wanted(Some("x"), Some("y")).fits(&NOTHING, &Text::TooLong));
    }
}

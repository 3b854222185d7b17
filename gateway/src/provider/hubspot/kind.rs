//! HubSpot's event names and object types, as "Webhooks API" and the public API specification collection list them.
//! It must not know bodies. The surprising thing: a name that is not listed here is no error, the event is acknowledged
//! and counted.

use headgate_schemas::ObjectType;

/// What happened, by the last part of the event's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Happening {
    Creation,
    Deletion,
    Merge,
    Restore,
    PropertyChange,
    AssociationChange,
    PrivacyDeletion,
    NewMessage,
}

/// Splits a name we know into its family and what happened.
pub(super) fn known(name: &str) -> Option<(&str, Happening)> {
    let (family, suffix) = name.split_once('.')?;
    let happening = match suffix {
        "creation" => Happening::Creation,
        "deletion" => Happening::Deletion,
        "merge" => Happening::Merge,
        "restore" => Happening::Restore,
        "propertyChange" => Happening::PropertyChange,
        "associationChange" => Happening::AssociationChange,
        "privacyDeletion" => Happening::PrivacyDeletion,
        "newMessage" => Happening::NewMessage,
        _ => return None,
    };
    let listed = match family {
        "contact" => happening != Happening::NewMessage,
        "company" | "deal" | "ticket" | "line_item" | "object" => {
            !matches!(happening, Happening::NewMessage | Happening::PrivacyDeletion)
        }
        "product" => {
            !matches!(happening, Happening::NewMessage | Happening::PrivacyDeletion | Happening::AssociationChange)
        }
        "conversation" => !matches!(happening, Happening::Merge | Happening::Restore | Happening::AssociationChange),
        _ => false,
    };
    listed.then_some((family, happening))
}

/// The neutral type behind an object type id; a custom object keeps its id.
pub(super) fn neutral(object_type_id: &str) -> ObjectType {
    match object_type_id {
        "0-1" => ObjectType::CONTACT,
        "0-2" => ObjectType::COMPANY,
        "0-3" => ObjectType::DEAL,
        "0-5" => ObjectType::new("ticket"),
        other => ObjectType::new(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_event_names_of_the_documentation_are_known_and_no_other() {
        let six = ["creation", "deletion", "merge", "restore", "propertyChange", "associationChange"];
        let families = ["contact", "company", "deal", "ticket", "line_item", "object"];
        let mut known_names: Vec<String> =
            families.iter().flat_map(|f| six.iter().map(move |s| format!("{f}.{s}"))).collect();
        known_names.extend(six[..5].iter().map(|s| format!("product.{s}")));
        known_names.push("contact.privacyDeletion".to_owned());
        for s in ["creation", "deletion", "privacyDeletion", "propertyChange", "newMessage"] {
            known_names.push(format!("conversation.{s}"));
        }
        assert_eq!(known_names.len(), 47);
        for name in &known_names {
            assert!(known(name).is_some(), "{name}");
        }
        for name in ["", "contact", "contact.", "Contact.creation", "event.completed", "product.associationChange"] {
            assert_eq!(known(name), None, "{name}");
        }
    }
}

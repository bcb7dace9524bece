//! Enumerations of the configuration: every choice is a word, and a wrong word is answered with the right ones.

/// Defines an enum whose only outside form is a word.
///
/// Serde's derive would also take a variant's index, so that `ordering = 1` meant something; here only the word does.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident, $expected:literal { $($(#[$variant_doc:meta])* $variant:ident = $word:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name {
            $($(#[$variant_doc])* $variant,)+
        }

        impl $name {
            /// Every choice, in the order of the documentation.
            pub const ALL: &'static [$name] = &[$($name::$variant),+];

            /// The word that the file uses.
            pub fn as_str(self) -> &'static str {
                match self { $($name::$variant => $word),+ }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                crate::config::units::text(deserializer, $expected, |word| {
                    $name::ALL.iter().copied().find(|choice| choice.as_str() == word)
                })
            }
        }
    };
}

pub(super) use words;

words! {
    /// What a weak set-up does to a start.
    Guarantees, "\"strict\" or \"warn\"" {
        /// A set-up that cannot keep the promises is refused, with the reason and the fix.
        Strict = "strict",
        /// It is reported and runs all the same: for laptops.
        Warn = "warn",
    }
}

words! {
    /// Whether messages of one ordering key run one after another.
    Ordering, "\"key\" or \"none\"" {
        /// The next message of a key starts after the commit of the one before.
        Key = "key",
        /// Messages run as they come.
        None = "none",
    }
}

words! {
    /// What happens to a message older than the inbox's memory, if its consumer existed then.
    TooOld, "\"dead\" or \"run\"" {
        /// It becomes a dead letter: it may have been handled already.
        Dead = "dead",
        /// It is handled, at the risk of a second effect.
        Run = "run",
    }
}

words! {
    /// What happens to an event that nobody subscribes to.
    Unrouted, "\"hold\" or \"drop\"" {
        /// It stays in the outbox until somebody does.
        Hold = "hold",
        /// It is dropped, and counted.
        Drop = "drop",
    }
}

words! {
    /// When the inbox is asked before the handler runs, and not only at the commit.
    Dedup, "\"suspect\" or \"always\"" {
        /// For deliveries that may have been begun before.
        Suspect = "suspect",
        /// For every delivery: for handlers whose calls to the outside cost much.
        Always = "always",
    }
}

words! {
    /// The brokers that a transport can speak to.
    TransportKind, "\"embedded\", \"rabbitmq\" or \"kafka\"" {
        /// Channels inside this process, over the store.
        Embedded = "embedded",
        /// RabbitMQ, over AMQP 0-9-1.
        Rabbitmq = "rabbitmq",
        /// Apache Kafka.
        Kafka = "kafka",
    }
}

words! {
    /// How the members of a Kafka group agree on who reads what.
    GroupProtocol, "\"classic\" or \"consumer\"" {
        /// Among themselves: every broker knows it.
        Classic = "classic",
        /// The broker decides (KIP-848): Kafka 4.
        Consumer = "consumer",
    }
}

words! {
    /// How a password is shown to a Kafka broker.
    Sasl, "\"plain\", \"scram-sha-256\" or \"scram-sha-512\"" {
        /// As it is.
        Plain = "plain",
        /// Proved to be known, and never sent.
        ScramSha256 = "scram-sha-256",
        /// The same, with a longer hash.
        ScramSha512 = "scram-sha-512",
    }
}

words! {
    /// What happens when records are gone from a topic that were never handled.
    OnLost, "\"continue\" or \"stop\"" {
        /// It is told loudly and counted, and the worker goes on with what is there.
        Continue = "continue",
        /// The subscription stops until a person has decided.
        Stop = "stop",
    }
}

"""Live calls and recordings over a recognizer. Knows no protocol: what a call's client says and hears is its wire's."""

"""The test kit: real services, real gateways, a scripted upstream. Everything on loopback, everything stopped again."""

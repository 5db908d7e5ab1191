"""The version of bindlab."""

VERSION = "0.1.0"

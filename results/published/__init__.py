"""The numbers of the papers as data of the package `marble.papers`; a README beside them says what they mean."""

"""A detector for one machine: fitted to normal sound, kept in a folder, used on new recordings."""

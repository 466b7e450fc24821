"""Arrays of features as clips: somebody's own front-end, without the audio it was made from."""

"""Front-ends: spectra of a waveform."""

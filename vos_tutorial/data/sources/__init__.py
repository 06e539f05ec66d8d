"""Where training samples come from: generated, simulated from stills, real video."""

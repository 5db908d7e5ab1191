"""Pictures of a run: drawn from its events alone, as SVG or as text."""

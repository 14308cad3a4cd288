"""Pictures of what was measured, one file each: as SVG in a page, as PNG beside a README."""

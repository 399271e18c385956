"""What runs beside training. Imports core and formats only, so that it is light and never in the way."""

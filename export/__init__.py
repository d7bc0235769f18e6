"""The lab: from a timm backbone and its weights to a sealed ROM image. Needs torch; devices never import it."""

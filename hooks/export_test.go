package hooks

// CountsOf is how Main and Pipeline count.
var CountsOf = counts

// The theme loads this file for icons of one's own. There are none here: 89 kB less.

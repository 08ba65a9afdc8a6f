package pglease

import _ "github.com/go-taskmanager/taskmanager/lease"

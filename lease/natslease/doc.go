package natslease

import _ "github.com/go-taskmanager/taskmanager/lease"

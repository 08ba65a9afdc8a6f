package kubelease

import _ "github.com/go-taskmanager/taskmanager/lease"

// Package lifecycles has no code but its tests, which run a [taskmanager.Manager] inside of what
// else a program may be held together by: errgroup, oklog/run, suture and fx. There is an example
// of each, with the order in which things end and the way an error takes. The schedules of
// robfig/cron are tested here, too. It is a module of its own, so that the library requires none of
// these.
package lifecycles

import _ "github.com/go-taskmanager/taskmanager" // for the link above

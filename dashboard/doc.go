// Package dashboard serves pages about the tasks of a Manager: which are in trouble, since when and why, what each is doing right now, and
// where its goroutines are. They are live, and work without a script, too.
//
// # Usage
//
// New makes a handler. It is served below a path that ends in a slash, by any router:
//
//	tasks, err := dashboard.New(m)
//	if err != nil {
//		return err
//	}
//	mux.Handle("/debug/tasks/", tasks)
//
// The list is at that path: all tasks, those within groups below the group, the ones in trouble first. Each leads to a page of its own,
// with its history, its last error and the stack of that, its dependencies, and where its goroutines are. The page "graph" shows who
// depends on whom. All of it is for looking, unless [WithActions] says who may do something.
//
// # Who may see it
//
// The handler authenticates nobody: what is before it must. Errors and status lines quote what the service works on: hosts, queries, names
// of customers, and at times what is secret; stacks show the code. Whoever gets here can read all that, and whoever may act can stop the
// service. So serve it on loopback or another address that operators alone reach, or wrap the handler in the authentication that the
// service has: all of it, for a stream and a file of JSON say as much as a page.
//
// Actions are accepted from pages of the same origin, and from clients that are no browsers, as [http.CrossOriginProtection] judges: a
// foreign site can't have the browser of somebody who is logged in send one. That does not stop a foreign site that gives its own
// name the address of this server, once its page is loaded (DNS rebinding): to a browser both are of the same origin then. It is stopped by
// authentication, for a browser has no credentials for that name; and by [WithHosts], which is what there is on a developer's machine,
// where nobody logs in.
//
// # Actions
//
// With [WithActions] there are buttons to restart, stop, pause, resume, trigger and start again; for one task, or for all that are
// selected, 1,000 at most. The function that it is given is asked again for each action on each task, whatever the page showed. An action
// is a POST: no link does anything. It goes on if the client goes away, and what takes longer than a second is answered as under way. Who has
// asked, as [WithUser] says, is by in the log and [taskmanager.Event.By] in the history of the task.
//
// # Live
//
// A page that can be seen holds one stream (text/event-stream), over which it is told once a second what has changed of the tasks that it
// shows; one in a hidden tab holds none. Where there can't be a stream, as behind [http.TimeoutHandler], it asks every two seconds instead.
// Rows are not moved while somebody looks: they are sorted when the page is loaded. Streams end when [http.Server.Shutdown] of their server
// is called, so that it does not wait for them, and when Shutdown of the Manager has ended.
//
// A server's WriteTimeout does not cut them. A writer that wraps that of the server must have the method Unwrap, see
// [http.ResponseController]; without it pages poll.
//
// # For machines
//
// The list, a task and the graph are there as JSON (tasks.json, task.json, graph.json), the first two also as text that reads well with
// curl (tasks.txt, task.txt). Their addresses, parameters and fields are documented in docs/dashboard.md, and as stable as exported names.
// The pages themselves, and the messages of the stream, are not.
//
// # Concurrency, and what it costs
//
// A handler may serve any number of requests at once, of several servers. It has no goroutine of its own without a viewer: with streams
// open there is one for all of them, which looks once a second at the tasks that anybody sees. It does not subscribe to events, so it costs
// tasks that fail in a loop nothing. The list looks at all tasks at each request. The page of a task takes a dump of all goroutines of the
// process, one a second at most for all who ask, and if there are more than 10,000 only when somebody asks for it.
//
// Methods of errors are called apart, and waited for a tenth of a second each, so that one that hangs or panics costs others nothing.
package dashboard

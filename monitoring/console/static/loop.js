// The same live picture as that of a roll-out: what is under #live is fetched anew every second.
import "./rollouts.js";
